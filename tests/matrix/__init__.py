"""Who may do what, and whose rows: every address, every method, every id, asked by everybody.

The addresses come from the URL resolver, what each needs from its view. What can't be derived stands in `table.py`.
Two organizations with one of everything, ours and theirs, are made once for a module; each test finds them untouched.
"""
