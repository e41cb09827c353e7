from c2fdft_model.commands.preparing.prepare_dataset import main

if __name__ == '__main__':
    raise SystemExit(main())
