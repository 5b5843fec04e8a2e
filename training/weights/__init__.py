"""Where the first weights come from: published, a file, a URL, a bundle."""
