from c2fdft_model.commands.prepare_dataset import main

if __name__ == '__main__':
    raise SystemExit(main())
