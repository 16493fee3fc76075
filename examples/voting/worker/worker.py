"""Takes votes out of the queue and writes them into the database, one after the other, until it is told to stop."""

import json
import signal
import sys

import psycopg2
from redis import Redis

# A vote counts once a voter: the last one.
STORE = """
INSERT INTO vote (voter, choice) VALUES (%(voter)s, %(choice)s)
ON CONFLICT (voter) DO UPDATE SET choice = excluded.choice
"""


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    queue = Redis(host="redis")
    database = psycopg2.connect("")
    database.autocommit = True
    print("waiting for votes")
    while True:
        _, text = queue.blpop("votes")
        vote = json.loads(text)
        with database.cursor() as cursor:
            cursor.execute(STORE, vote)
        print(f"{vote['voter']} votes for {vote['choice']}")


main()
