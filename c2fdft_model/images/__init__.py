"""Image files, read and written, by OpenCV (fast), Pillow and tifffile (all that belongs to them).

OpenImageIO 3.2, one library for all of it, loses the maker's note, XMP as it was written, and all
but the profile in WebP.
"""
