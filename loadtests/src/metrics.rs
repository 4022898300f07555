//! Reads single numbers out of the edge's Prometheus metrics.

/// One look at the metrics.
#[derive(Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// From the text format.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// The sum of all series of `name` whose labels contain `label`, for instance `cache="memory"`; an empty `label` is
    /// contained in all. 0 if there are none: a counter with labels shows up when it is first counted.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
        };
        self.text.lines().filter_map(value).sum()
    }

    /// Whether there is a series of that name, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_told_apart_by_whole_name_and_label() {
        let text = "# TYPE a_total counter\na_total{cache=\"memory\",status=\"2xx\"} 5\n\
                    a_total{cache=\"disk\",status=\"2xx\"} 7\na_total_more 100\nb_seconds_count 3\n";
        let metrics = Metrics::new(text.to_owned());
        assert_eq!(metrics.sum("a_total", "cache=\"memory\""), 5.0);
        assert_eq!(metrics.sum("a_total", ""), 12.0);
        assert_eq!(metrics.sum("b_seconds_count", ""), 3.0);
        assert_eq!(metrics.sum("c", ""), 0.0);
        assert!(metrics.has("a_total") && metrics.has("b_seconds_count"));
        assert!(!metrics.has("a") && !metrics.has("b_seconds"));
    }
}
