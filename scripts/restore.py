from c2fdft_model.commands.restore import main

if __name__ == '__main__':
    raise SystemExit(main())
