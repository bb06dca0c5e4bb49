// A family of samples that are read when they are scraped.
#ifndef CAUSEWAY_SERVER_TELEMETRY_FAMILY_H_
#define CAUSEWAY_SERVER_TELEMETRY_FAMILY_H_

#include <string>
#include <utility>
#include <vector>

#include <prometheus/metric_family.h>

namespace causeway {

using LabelList = std::vector<prometheus::ClientMetric::Label>;

inline LabelList With(LabelList labels, const char* name, std::string value) {
  labels.push_back({name, std::move(value)});
  return labels;
}

// Samples are added one by one.
class Family {
 public:
  Family(const char* name, const char* help, prometheus::MetricType type) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }
  Family& Add(LabelList labels, double value) {
    prometheus::ClientMetric metric;
    metric.label = std::move(labels);
    if (family_.type == prometheus::MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family_.metric.push_back(std::move(metric));
    return *this;
  }
  // Leaves it out where it has no sample.
  void AppendTo(std::vector<prometheus::MetricFamily>& families) {
    if (!family_.metric.empty()) families.push_back(std::move(family_));
  }

 private:
  prometheus::MetricFamily family_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_FAMILY_H_
