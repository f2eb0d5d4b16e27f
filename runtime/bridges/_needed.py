"""What is said where the library of a bridge is not there."""


def lacking(library: str, install: str, error: ImportError) -> ImportError:
    """The error that names what to install.

    Args:
        library: What could not be imported.
        install: What `pip install` is to be given.
        error: How the import failed, which may be for want of something else.
    """
    return ImportError(
        f"this bridge needs {library}, which cannot be imported ({error}); "
        f"install it with: pip install {install}",
        name=library,
    )
