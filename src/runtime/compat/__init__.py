"""Private members of other libraries: touched here and nowhere else, a file for each library.

Each file names the versions it was tested with and, where a public way exists, takes it when a member is gone.
Import it where you would import its library.
"""
