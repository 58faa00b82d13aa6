"""The files that users write. Commands and plugins share these readers."""
