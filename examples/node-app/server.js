const express = require("express");
const { Shortener } = require("./shortener");

const links = new Shortener();
const app = express();
app.use(express.text());

app.get("/", (request, response) => response.json({ links: links.size }));
app.post("/", (request, response) => response.status(201).send(links.add(request.body) + "\n"));
app.get("/:key", (request, response) => {
  const target = links.get(request.params.key);
  if (target) response.redirect(target);
  else response.status(404).send("no such link\n");
});

const port = process.env.PORT || 3000;
const server = app.listen(port, () => console.log(`listening on port ${port}`));
process.on("SIGTERM", () => server.close());
