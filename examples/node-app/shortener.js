// Gives each address a short key, the same one each time it is asked.
class Shortener {
  #byKey = new Map();
  #byTarget = new Map();

  get size() {
    return this.#byKey.size;
  }

  add(target) {
    let key = this.#byTarget.get(target);
    if (!key) {
      key = this.size.toString(36);
      this.#byKey.set(key, target);
      this.#byTarget.set(target, key);
    }
    return key;
  }

  get(key) {
    return this.#byKey.get(key);
  }
}

module.exports = { Shortener };
