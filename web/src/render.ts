// Model output and model cards are untrusted text. They become Markdown, never HTML: tags in them show as the
// characters they are, links lead only to http, https and mailto, and nothing in them can load or run.

import DOMPurify, { type Config } from "dompurify";
import { Marked } from "marked";

const SAFE_LINK = /^(?:https?:|mailto:)/i;

const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? character);
}

const markdown = new Marked({
  gfm: true,
  breaks: true,
  async: false,
  renderer: {
    // Raw HTML, block or inline, is text.
    html({ text }) {
      return escapeHtml(text);
    },
    // An image would make the browser ask a stranger's server: show its source instead.
    image({ raw }) {
      return escapeHtml(raw);
    },
    link({ href, tokens, raw }) {
      if (!SAFE_LINK.test(href)) {
        return escapeHtml(raw);
      }
      return `<a href="${escapeHtml(href)}">${this.parser.parseInline(tokens)}</a>`;
    },
    // `- [ ]` lists without form controls.
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

// The second fence: even if the renderer above were wrong, nothing outside these lists survives.
const POLICY: Config & { RETURN_DOM_FRAGMENT: true } = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "href", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: SAFE_LINK,
  RETURN_DOM_FRAGMENT: true,
};

/** Replaces the contents of `target` with `text` rendered as Markdown. */
export function renderMarkdown(target: Element, text: string): void {
  const html = markdown.parse(text, { async: false });
  const fragment = DOMPurify.sanitize(html, POLICY);
  for (const link of fragment.querySelectorAll("a")) {
    link.rel = "noopener noreferrer nofollow";
    link.target = "_blank";
  }
  target.replaceChildren(fragment);
}

/** A model card without the YAML block that hubs read. */
export function stripFrontMatter(card: string): string {
  return card.replace(/^﻿?---\r?\n[\s\S]*?\r?\n---\r?\n/, "");
}
