"""`hearth check`: what can be found wrong with a configuration before anything runs.

findings.py and codes.py say what a finding is. compose_file.py reads Compose's files, subject.py puts everything that
is looked at together, and each module of checks is pure functions from that to findings.
"""
