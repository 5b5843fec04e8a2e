"""`python -m service` starts the service; `settings` prints its settings, `keys new` makes one."""

if __name__ == "__main__":
    import sys

    if sys.argv[1:] == ["settings"]:
        from service.settings import SettingsError, ignored_variables, read_settings, settings_table

        try:
            print(settings_table(read_settings()))  # noqa: T201
        except SettingsError as exc:
            sys.exit(f"The service can't start: {exc}")
        print(*ignored_variables(), sep="\n", file=sys.stderr)  # noqa: T201
    elif sys.argv[1:2] == ["keys"]:
        from service.access.command import main as keys

        sys.exit(keys(sys.argv[2:]))
    elif sys.argv[1:]:
        sys.exit(
            "Usage: python -m service [settings | keys new NAME]. "
            "The settings are environment variables."
        )
    else:
        from service.server import main

        sys.exit(main())
