from c2fdft_model.commands.check_weights import main

if __name__ == '__main__':
    raise SystemExit(main())
