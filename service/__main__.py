"""`python -m service` starts the service; `python -m service settings` prints its settings."""

if __name__ == "__main__":
    import sys

    if sys.argv[1:] == ["settings"]:
        from service.settings import settings_table

        print(settings_table())  # noqa: T201
    elif sys.argv[1:]:
        sys.exit("Usage: python -m service [settings]. The settings are environment variables.")
    else:
        from service.server import main

        sys.exit(main())
