from c2fdft_model.commands.evaluate import main

if __name__ == '__main__':
    raise SystemExit(main())
