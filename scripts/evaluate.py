from c2fdft_model.commands.measuring.evaluate import main

if __name__ == '__main__':
    raise SystemExit(main())
