from c2fdft_model.commands.denoise_mat import main

if __name__ == '__main__':
    raise SystemExit(main())
