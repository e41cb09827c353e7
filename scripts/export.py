from c2fdft_model.commands.export import main

if __name__ == '__main__':
    raise SystemExit(main())
