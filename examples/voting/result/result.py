"""The page that counts the votes in the database."""

import psycopg2
from flask import Flask

app = Flask(__name__)


@app.get("/")
def result():
    database = psycopg2.connect("")
    try:
        with database.cursor() as cursor:
            cursor.execute("SELECT choice, count(*) FROM vote GROUP BY choice")
            return dict(cursor.fetchall())
    finally:
        database.close()
