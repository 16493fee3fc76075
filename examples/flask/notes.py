"""A list of notes, kept for as long as the process lives."""

from flask import Flask, request

app = Flask(__name__)
notes = []


@app.get("/")
def index():
    return {"service": "notes", "count": len(notes)}


@app.get("/notes")
def show():
    return notes


@app.post("/notes")
def add():
    notes.append(request.get_data(as_text=True))
    return {"count": len(notes)}, 201
