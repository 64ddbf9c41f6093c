"""How the course is made into a book: pages, Sphinx's settings, the check of links. `make book` runs build.py."""
