"""Files in files: zip and tar archives, gzip, and which file inside is the one meant."""
