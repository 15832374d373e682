"""Batches: many operations from lines of JSON, with bounded concurrency, so that each is answered once.

lines.py     a line -> what it asks for; the checks of a whole input before anything is sent
answers.py   a line -> its answer, by the steps of `host.service.dispatch`; waits where a limit says so
work.py      the lines that are under way, the order of their answers, failures, and the end
results.py   answers in files, durably, so that a batch that was killed goes on
ray_engine.py   lines on the nodes of a Ray cluster
hosted.py    batches that a server runs itself, as OpenAI's API has them
hosted_work.py   the work on one of them; kept.py: the objects that the API shows

A line is finished once its answer is on the disk. One that was under way when the process was killed is run again, with
the same idempotency key. It may import what `host.service` may.
"""
