const test = require("node:test");
const assert = require("node:assert");
const { Shortener } = require("./shortener");

test("the same address keeps its key", () => {
  const links = new Shortener();
  const key = links.add("https://example.com/");
  assert.equal(links.add("https://example.com/"), key);
  assert.equal(links.get(key), "https://example.com/");
  assert.equal(links.size, 1);
});
