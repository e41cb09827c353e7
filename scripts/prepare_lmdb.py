from c2fdft_model.commands.preparing.prepare_lmdb import main

if __name__ == '__main__':
    raise SystemExit(main())
