"""What is measured: functions of a job that return a round, and what is known about it (`worker.py`).

The files of peers import only what the peer's environment has.
"""
