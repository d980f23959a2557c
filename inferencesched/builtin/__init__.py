"""The plugins that come with the library, a page of siblings per role. Nobody imports them but `registry`, by name."""
