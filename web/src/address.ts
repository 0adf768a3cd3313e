// Between the names of folders and addresses.

/** `scheme://…` and `//host/…`: an address and no path below the page. */
const ABSOLUTE = /^(?:[a-z][a-z0-9+.-]*:)?\/\//i;

/** What a path in an address cannot hold as it is: its own syntax, and what URL parsers drop or turn into a slash. */
const SYNTAX = /[%?#\\\p{Cc}\s]/gu;

/**
 * The address of a model's folder, with a slash at its end: the name `NAME` is `models/NAME/` below `base`, anything with a
 * slash a path below it, or a whole address. Names are taken literally: `50%` is a folder of that name.
 */
export function folderAddress(asked: string, base: string): URL {
  if (ABSOLUTE.test(asked)) {
    return new URL(asked.endsWith("/") ? asked : `${asked}/`, base);
  }
  const path = asked.includes("/") ? asked : `./models/${asked}`;
  const literal = path.replace(SYNTAX, encodeURIComponent);
  // A leading `./` keeps the parser from taking `a:b/c` for a scheme.
  const relative = literal.startsWith("/") ? literal : `./${literal}`;
  return new URL(relative.endsWith("/") ? relative : `${relative}/`, base);
}

/** The last part of a folder's address, for people; as it stands where its escapes are none. */
export function folderName(folder: URL): string {
  const part = folder.pathname.split("/").at(-2) ?? "";
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
