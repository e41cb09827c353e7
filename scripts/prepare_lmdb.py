from c2fdft_model.commands.prepare_lmdb import main

if __name__ == '__main__':
    raise SystemExit(main())
