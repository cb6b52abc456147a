//! Metrics of Burn's learner, stored for the table and the plot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};

type Key = (String, usize, String);

/// A metric's values in an epoch, and their mean.
#[derive(Default)]
struct EpochValues {
    entries: Vec<NumericEntry>,
    mean: f64,
}

/// The values of each metric, by name, epoch and split. Clones share the values.
#[derive(Clone, Default)]
pub struct MetricHistory {
    names: HashMap<MetricId, String>,
    values: Arc<Mutex<HashMap<Key, EpochValues>>>,
}

impl MetricHistory {
    /// The mean of a metric over an epoch.
    pub fn mean(&self, name: &str, epoch: usize, split: &Split) -> Option<f64> {
        let key = (name.to_owned(), epoch, split.to_string());
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(&key).map(|values| values.mean)
    }
}

impl MetricLogger for MetricHistory {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in update.entries_numeric {
            let Some(name) = self.names.get(&metric.entry.metric_id) else {
                continue;
            };
            let key = (name.clone(), epoch, split.to_string());
            let epoch = values.entry(key).or_default();
            epoch.entries.extend(metric.numeric_entry);
            if let Some(running) = metric.running_entry {
                epoch.mean = running.current();
            }
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let key = (name.to_owned(), epoch, split.to_string());
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let found = values.get(&key).map(|values| values.entries.clone());
        found.ok_or_else(|| format!("no {name} in epoch {epoch}"))
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        let name = definition.name.to_string();
        self.names.insert(definition.metric_id, name);
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
