use super::*;

/// The page of a metrics file with this content.
fn page(metrics: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let (input, output) = (
        dir.path().join("metrics.jsonl"),
        dir.path().join("report.html"),
    );
    std::fs::write(&input, metrics).expect("writable");
    let run = RunFacts {
        title: "A <run> & its report".into(),
        facts: vec![("command".into(), "mor train \"x\" </table>".into())],
    };
    write_report(&input, &run, &output).expect("a page");
    let page = std::fs::read_to_string(&output).expect("readable");
    assert_balanced(&page);
    page
}

/// Every element that was opened is closed, in order.
fn assert_balanced(page: &str) {
    const VOID: [&str; 3] = ["meta", "link", "!doctype"];
    let mut open = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag's end");
        let name = tag.split_whitespace().next().unwrap_or(tag);
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

fn charts(page: &str) -> usize {
    page.matches("<svg").count()
}

#[test]
fn an_empty_file_gives_a_page_that_says_so() {
    let page = page("");
    assert_eq!(charts(&page), 0);
    assert!(page.contains("no step yet"));
    assert!(page.contains("A &lt;run&gt; &amp; its report"));
    assert!(!page.contains("\"x\" </table>"));
}

#[test]
fn one_step_gives_a_chart_of_each_quantity_it_has() {
    let page = page(
        r#"{"step":1,"tokens":64,"seconds":0.5,"progress":0.1,"loss":9.0,"bits_per_byte":3.0,"learning_rate":1e-3,"gradient_norm":2.0,"tokens_per_second":128.0,"depth":2.0}"#,
    );
    assert_eq!(charts(&page), 5);
    assert!(!page.contains("Validations") && !page.contains("Answers"));
    assert!(page.contains("10 % of the budget"));
}

#[test]
fn losses_that_are_no_numbers_are_marked_and_left_out() {
    let all = page(
        "{\"step\":1,\"loss\":null,\"skipped\":true}\n{\"step\":2,\"loss\":null,\"skipped\":true}\n",
    );
    assert_eq!(charts(&all), 0);
    assert!(all.contains("2 skipped"));
    let some = page("{\"step\":1,\"loss\":2.0}\n{\"step\":2,\"loss\":null,\"skipped\":true}\n");
    assert_eq!(charts(&some), 1);
    assert!(some.contains("skipped step"));
    assert!(!some.contains("NaN") && !some.contains("inf"));
}

#[test]
fn model_output_stays_text() {
    let hostile = "</p><script>alert(1)</script><img src=x onerror='a'>&amp;\u{202e}\u{0}";
    let line = serde_json::json!({
        "step": 1, "seconds": 1.0,
        "validation": {"loss": null, "perplexity": null, "bits_per_byte": null},
        "samples": [{"prompt": hostile, "answer": hostile}, {"prompt": "a", "answer": ""}],
    });
    let page = page(&line.to_string());
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert_eq!(page.matches("&lt;script&gt;alert(1)").count(), 2);
    assert!(page.contains("<em>(empty)</em>"));
    assert_eq!(charts(&page), 0);
}

#[test]
fn the_best_validation_is_the_bold_one() {
    let line = |step: u64, bits: f64| serde_json::json!({"step": step, "seconds": 1, "validation": {"loss": 2.0, "bits_per_byte": bits}, "depths": [0, 1, 1]});
    let page = page(&format!(
        "{}\n{}\n{}\n",
        line(5, 1.5),
        line(10, 1.25),
        line(15, 1.75)
    ));
    assert_eq!(page.matches("<tr class=\"best\">").count(), 1);
    assert!(page.contains("<tr class=\"best\"><td>10</td>"));
    assert!(page.contains("<td>1.50</td>"), "the mean depth");
    assert_eq!(charts(&page), 2);
}

#[test]
fn routers_and_depths_get_charts_of_shares() {
    let line = |step: u64| {
        serde_json::json!({
            "step": step, "depths": [0, 4, 0, 4, 0, 1], "loss_scale": 65536.0,
            "router": {"loss": 1.0, "classes": [1, 2, 0], "targets": [0, 1, 2], "perplexity": 30.0},
        })
    };
    let page = page(&format!("{}\n{}\n", line(1), line(2)));
    for title in [
        "Depth",
        "Router classes",
        "Pseudo-classes",
        "Router loss",
        "Row perplexity",
        "Loss scale",
    ] {
        assert!(page.contains(&format!("<h2>{title}")), "{title}");
    }
    assert_eq!(charts(&page), 6);
    assert!(page.contains("1 step<") && page.contains("5 steps<"));
    assert!(!page.contains("2 steps<"), "a depth nobody took");
}

#[test]
fn the_page_asks_for_nothing_else() {
    let page = page("{\"step\":1,\"loss\":2.0}");
    assert!(page.contains("default-src 'none'"));
    // The SVG namespace is a name, not an address.
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    for address in ["http:", "https:", "//", "@import", "url(", "src="] {
        assert!(!addresses.contains(address), "{address}");
    }
}

#[test]
fn missing_metrics_are_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = dir.path().join("report.html");
    let error = write_report(
        &dir.path().join("metrics.jsonl"),
        &RunFacts::default(),
        &output,
    )
    .expect_err("no file");
    assert!(error.to_string().contains("metrics.jsonl"));
    assert!(!output.exists());
}
