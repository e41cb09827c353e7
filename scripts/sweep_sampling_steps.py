from c2fdft_model.commands.measuring.sweep import main

if __name__ == '__main__':
    raise SystemExit(main())
