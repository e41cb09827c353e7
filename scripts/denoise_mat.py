from c2fdft_model.commands.measuring.denoise_mat import main

if __name__ == '__main__':
    raise SystemExit(main())
