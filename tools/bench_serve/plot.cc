// The plot of reports: two panels, time to first token and time between tokens, in milliseconds.

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/bench_serve/report.h"

namespace deltaserve::bench {
namespace {

constexpr double kWidth = 420, kHeight = 240, kLeft = 60, kTop = 40, kPanel = 540;

struct Curve {
  const char* name;
  const char* colour;
  double Percentiles::*value;
};
constexpr std::array<Curve, 3> kCurves = {{{"p50", "#2166ac", &Percentiles::p50},
                                           {"p90", "#f4a582", &Percentiles::p90},
                                           {"p99", "#b2182b", &Percentiles::p99}}};

void AddText(double x, double y, const char* anchor, const std::string& text, std::string* svg) {
  absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y,
                        anchor, text);
}

void AddPanel(const std::vector<Report>& reports,
              double left,
              const std::string& title,
              const std::string& axis,
              Percentiles Report::*member,
              std::string* svg) {
  double most_x = 1e-9, most_y = 1e-9;
  for (const Report& report : reports) {
    most_x = std::max(most_x, report.offered);
    most_y = std::max(most_y, 1e3 * (report.*member).p99);
  }
  const auto x_of = [&](double x) { return left + kWidth * x / most_x; };
  const auto y_of = [&](double y) { return kTop + kHeight * (1 - y / most_y); };
  AddText(left + kWidth / 2, kTop - 14, "middle", title, svg);
  AddText(left + kWidth / 2, kTop + kHeight + 36, "middle", axis, svg);
  for (int tick = 0; tick <= 4; ++tick) {
    const double share = tick / 4.0;
    absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fH%.1f\" stroke=\"#dddddd\" fill=\"none\"/>\n",
                          left, y_of(share * most_y), left + kWidth);
    AddText(left - 6, y_of(share * most_y) + 4, "end", absl::StrFormat("%.4g", share * most_y),
            svg);
    AddText(x_of(share * most_x), kTop + kHeight + 18, "middle",
            absl::StrFormat("%.3g", share * most_x), svg);
  }
  for (size_t i = 0; i < kCurves.size(); ++i) {
    std::string points;
    for (const Report& report : reports) {
      if (report.answered == 0) continue;
      const double x = x_of(report.offered);
      const double y = y_of(1e3 * (report.*member).*kCurves[i].value);
      absl::StrAppendFormat(&points, "%.1f,%.1f ", x, y);
      absl::StrAppendFormat(svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x, y,
                            kCurves[i].colour);
    }
    absl::StrAppendFormat(svg, "<polyline points=\"%s\" stroke=\"%s\" fill=\"none\"/>\n", points,
                          kCurves[i].colour);
    absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">%s</text>\n", left + 8,
                          kTop + 14 + 16 * static_cast<double>(i), kCurves[i].colour,
                          kCurves[i].name);
  }
}

}  // namespace

std::string ReportPlot(const std::vector<Report>& sorted, const std::string& axis) {
  std::vector<Report> reports = sorted;
  std::stable_sort(reports.begin(), reports.end(),
                   [](const Report& a, const Report& b) { return a.offered < b.offered; });
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      2 * kPanel, kTop + kHeight + 60);
  AddPanel(reports, kLeft, "time to first token, ms", axis, &Report::first, &svg);
  AddPanel(reports, kLeft + kPanel, "time between tokens, ms", axis, &Report::gap, &svg);
  svg += "</svg>\n";
  return svg;
}

}  // namespace deltaserve::bench
