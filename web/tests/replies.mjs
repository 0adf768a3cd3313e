// What the made-up models answer. One byte is one token, and the usual context holds 252 of them.

export const LONG_REPLY =
  "Tokens arrive one at a time. Each line of this answer is plain, so that a test can watch it grow, stop it " +
  "halfway, or read it to the end. Nothing in it means anything; it only has to be long enough to be seen growing.";

/** What a GPU writes: as long as tests need it, since SwiftShader takes its time for each token. */
export const GPU_REPLY =
  "Tokens arrive one at a time, so that a test can watch them.";

export const MARKDOWN_REPLY =
  "Use `tar -tf`:\n\n```sh\ntar -tf a.tar\n```\n\n- **-t** lists\n- **-f** names the file\n\n" +
  "See [the manual](https://www.gnu.org/software/tar/). Ünïcödé 🙂";

export const HOSTILE_REPLY =
  '<img src=x onerror="window.pwned=1"><script>window.pwned=2</script> **bold** [click](javascript:window.pwned=3) ' +
  "![pixel](http://127.0.0.1:9/p.png) <svg onload=window.pwned=4> [d](data:text/html,x) <b>raw</b>";
