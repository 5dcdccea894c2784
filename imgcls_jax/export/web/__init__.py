"""A page that classifies images in the browser, as a folder for any static host; `files/` holds them to read."""
