// Which collection is asked: a choice beside the model's, shown once there is more than one.

import { collections } from "/console/chat.js";
import { byId, make } from "/console/dom.js";
import { recall, remember } from "/console/history.js";

export class CollectionPicker {
  // `storage` keeps the choice; `changed` is called when somebody makes another.
  constructor(storage, changed) {
    this.storage = storage;
    this.cards = [];
    this.box = byId("collections");
    this.select = byId("collection");
    this.select.addEventListener("change", () => {
      remember(storage, "collection", this.select.value);
      changed();
    });
  }

  get several() {
    return this.cards.length > 1;
  }

  // The name to ask; empty while there is nothing to choose.
  get chosen() {
    return this.several ? this.select.value : "";
  }

  // What is known of it; null while there is nothing to choose.
  get card() {
    return this.several ? (this.cards.find(({ id }) => id === this.select.value) ?? null) : null;
  }

  // What its questions are made of: another one once its index was replaced, or a document forgotten.
  get madeOf() {
    const card = this.cards.find(({ id }) => id === this.select.value);
    return card ? [card.id, card.index_version, card.forgotten].join("\n") : "";
  }

  // Asks what there is. A choice that is gone becomes the default again.
  async update() {
    try {
      this.cards = await collections();
    } catch {
      return; // gone or out of order: what was offered stays
    }
    const wanted = recall(this.storage, "collection");
    this.select.replaceChildren(
      ...this.cards.map(({ id }) => {
        const option = make("option", "", id);
        option.value = id;
        return option;
      }),
    );
    const usual = this.cards.find((card) => card.default) ?? this.cards[0];
    this.select.value = this.cards.some(({ id }) => id === wanted) ? wanted : (usual?.id ?? "");
    this.box.hidden = !this.several;
  }
}
