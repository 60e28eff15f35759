"""Finds mistakes of a balancer or a real server: facts are read, checks judge them, ops mend them.

* ``doors`` read the outside, once, into frozen values (``facts``);
* a check is a pure function from facts to findings, in a table with its id and its words;
* what cannot be read makes the checks that need it "not checked", and never clean;
* an op (``ops``) is a value that prints as the command that it stands for; ``doors.mending``
  carries it out.
"""
