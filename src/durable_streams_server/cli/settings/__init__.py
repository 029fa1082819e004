"""The settings of `serve`: one definition of each, from which its flag, environment variable, file key and row in the docs come.

To add a setting, add one field to the class of its topic, such as `Limits` in `limits.py`:

    max_body: int = setting(
        DEFAULT_MAX_BODY,
        "Bytes of one request body; a larger one is refused with 413.",
        kind=Size(1, LARGEST_BODY),
    )

This field defines the flag `--max-body`, the variable `DURABLE_STREAMS_MAX_BODY`, the key `max-body` of the file, and the attribute
`max_body` of `Settings`. Then run `make settings`, which renews docs/settings.md. `definition.py` describes the arguments of `setting`.

- The type of the field decides the shape of the flag: `bool` makes `--name/--no-name`, `tuple[str, ...]` a flag that may be repeated, a
  `Literal` a choice. Give a `bool` a positive name. The one exception is `no_auth`, which has the single flag `--no-auth`.
- A value that is wrong by itself is refused by its `kind` (`cli/values.py`), so that the error names where the value came from.
- Values that contradict each other are refused by the method `check` of the topic, or by `Settings.check` if two topics take part.
- A new topic is a file here, with one line in `TOPICS` and one base class of `Settings` (`settings.py`).
- A setting never holds a secret, because flags and environment variables are visible to other programs. It names the file that holds it.
"""
