"""The page on which a photograph is restored in a browser (Gradio, the extra `page`)."""
