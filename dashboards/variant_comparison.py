"""Which variant is better: for managers, from PostgreSQL."""

from dashboards.parts import Json, dashboard, lines, panel, sql, variable

# The value is quoted by Grafana; a key may hold spaces.
CHOSEN = "${experiment:sqlstring}"
ALARM = 1_000.0  # of the sample ratio, as the engine has it
ACTIONS = {
    "switch": "green",
    "keep_control": "blue",
    "equivalent": "purple",
    "keep_collecting": "yellow",
    "pause_variant": "orange",
    "investigate": "red",
}


def _by_call(value: str, having: str = "") -> Json:
    """Per interval and variant, by the time when the calls started."""
    return sql(
        f"""
SELECT $__timeGroupAlias(started_at, $__interval), variant AS metric, {value} AS value
FROM calls
WHERE experiment = {CHOSEN} AND $__timeFilter(started_at)
GROUP BY 1, 2 {having}
ORDER BY 1
"""
    )


def _mean(metric: str) -> Json:
    return _by_call(f"AVG({metric})", f"HAVING COUNT({metric}) > 0")


def _standing(value: str, *, name: str = "v.key", where: str = "TRUE") -> Json:
    """One point whenever the experiment was judged."""
    return sql(
        f"""
SELECT s.at AS time, {name} AS metric, {value} AS value
FROM standings s JOIN experiments e ON e.id = s.experiment_id JOIN variants v ON v.id = s.variant_id
WHERE e.key = {CHOSEN} AND $__timeFilter(s.at) AND {where}
ORDER BY s.at, v.position
"""
    )


NEEDED = f"""
SELECT s.at AS time, 'needed' AS metric, MAX(s.e_needed) AS value
FROM standings s JOIN experiments e ON e.id = s.experiment_id
WHERE e.key = {CHOSEN} AND $__timeFilter(s.at)
GROUP BY s.at
ORDER BY s.at
"""

RECOMMENDATION = f"""
SELECT s.action AS "Recommendation", s.recommended AS "Variant", e.status AS "Experiment", s.at AS "Judged"
FROM standings s JOIN experiments e ON e.id = s.experiment_id
WHERE e.key = {CHOSEN}
ORDER BY s.at DESC LIMIT 1
"""

VERIFIED = """
SELECT CASE WHEN differences = 0 THEN 'counts equal outcomes' ELSE differences || ' rows differ' END AS "Verified",
  at AS "When"
FROM verifications
ORDER BY at DESC LIMIT 1
"""

VARIANTS = f"""
SELECT v.key AS "Variant", c.calls AS "Calls", s.share_bp / 10000.0::float8 AS "Share", c.resolved AS "Resolved",
  c.quality AS "Quality", c.duration_s AS "Duration", 1 - s.told::float8 / NULLIF(s.matured, 0) AS "Missing",
  s.probability_best AS "P(best)", s.e_value AS "e-value", s.e_needed AS "Needed"
FROM experiments e JOIN variants v ON v.experiment_id = e.id
JOIN LATERAL (
  SELECT COALESCE(SUM(n) FILTER (WHERE metric = 'assigned'), 0)::float8 AS calls,
    SUM(total) FILTER (WHERE metric = 'resolved') / NULLIF(SUM(n) FILTER (WHERE metric = 'resolved'), 0) AS resolved,
    SUM(total) FILTER (WHERE metric = 'quality') / NULLIF(SUM(n) FILTER (WHERE metric = 'quality'), 0) AS quality,
    SUM(total) FILTER (WHERE metric = 'duration_s') / NULLIF(SUM(n) FILTER (WHERE metric = 'duration_s'), 0)
      AS duration_s
  FROM counts WHERE experiment_id = e.id AND variant_id = v.id
) c ON TRUE
LEFT JOIN standings s ON s.experiment_id = e.id AND s.variant_id = v.id
  AND s.at = (SELECT MAX(at) FROM standings WHERE experiment_id = e.id)
WHERE e.key = {CHOSEN}
ORDER BY v.position
"""

AB_TESTS = """
SELECT test_name AS "Test", status AS "Status", calls_a AS "Calls a", calls_b AS "Calls b",
  quality_a AS "Quality a", quality_b AS "Quality b", started_at AS "Started"
FROM prompt_ab_tests
ORDER BY started_at DESC
"""

UNITS = {
    "Share": "percentunit",
    "Resolved": "percentunit",
    "Quality": "percentunit",
    "Duration": "s",
    "Missing": "percentunit",
    "P(best)": "percentunit",
    "Judged": "dateTimeFromNow",
    "When": "dateTimeFromNow",
    "Started": "dateTimeAsIso",
}
SHARE: Json = {"unit": "percentunit", "min": 0, "max": 1}


def _timeline() -> Json:
    query = _standing("s.action", name="'recommendation'", where="v.is_control")
    mapped = {action: {"color": color, "index": i} for i, (action, color) in enumerate(ACTIONS.items())}
    return panel(
        "state-timeline",
        "Recommendation over time",
        "What was recommended, and since when. Before the minimum number of days it is always to keep collecting.",
        [query],
        unit="none",
        size=(24, 4),
        mappings=[{"type": "value", "options": mapped}],
        options={"mergeValues": True, "showValue": "auto", "rowHeight": 0.9},
    )


def build() -> Json:
    """The dashboard."""
    panels = [
        panel(
            "table",
            "What to do",
            "The recommendation of the last judgement. Only `switch` says that a variant is proven better.",
            [sql(RECOMMENDATION, as_table=True)],
            size=(16, 4),
            columns={"Judged": UNITS["Judged"]},
        ),
        panel(
            "table",
            "Are the numbers sound?",
            "What `promptbandit verify` found when it recounted every outcome last.",
            [sql(VERIFIED, as_table=True)],
            size=(8, 4),
            columns={"When": UNITS["When"]},
        ),
        panel(
            "table",
            "Variants",
            "Calls and means of all calls so far; share, missing outcomes, belief and evidence of the last judgement.",
            [sql(VARIANTS, as_table=True)],
            size=(24, 6),
            columns={name: unit for name, unit in UNITS.items() if name not in ("Judged", "When", "Started")},
        ),
        lines(
            "Resolved without operator",
            "Share of the calls of each interval, by when they started. It wobbles; the evidence below does not.",
            _mean("resolved"),
            **SHARE,
        ),
        lines("Quality", "Mean quality of the calls of each interval.", _mean("quality"), **SHARE),
        lines(
            "Duration", "Mean duration of the calls of each interval.", _mean("duration_s"), unit="s", min=0
        ),
        lines(
            "Calls",
            "Calls that each variant was given per interval.",
            _by_call("COUNT(*)::float8"),
            custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}},
            min=0,
        ),
        lines(
            "Share of new calls",
            "Where the split sends new calls. A bandit moves it to what is believed to be better.",
            _standing("s.share_bp / 10000.0::float8"),
            custom={"lineInterpolation": "stepAfter", "fillOpacity": 30, "stacking": {"mode": "normal"}},
            **SHARE,
        ),
        lines(
            "Belief: probability to be the best",
            "Steers the split. It is no proof: it crosses 95 % by luck more often than one thinks.",
            _standing("s.probability_best", where="s.probability_best IS NOT NULL"),
            **SHARE,
        ),
        lines(
            "Evidence: e-value against the control",
            "Valid however often one looks. A claim needs 1/alpha, times the number of variants compared.",
            _standing("s.e_value", where="s.e_value IS NOT NULL"),
            sql(NEEDED),
            custom={"scaleDistribution": {"type": "log", "log": 10}},
        ),
        lines(
            "Missing outcomes",
            "Share of matured calls without an outcome of the goal. If it differs between variants, so do the samples.",
            _standing("1 - s.told::float8 / s.matured", where="s.matured > 0"),
            limit=0.2,
            **SHARE,
        ),
        lines(
            "Sample ratio: evidence against the split",
            "Did the calls arrive as they were split? Above 1 000 no comparison can be trusted: investigate.",
            _standing("s.sample_ratio_e_value", name="'e-value'", where="v.is_control"),
            limit=ALARM,
            custom={"scaleDistribution": {"type": "log", "log": 10}},
        ),
        _timeline(),
        panel(
            "table",
            "All A/B tests",
            "Every experiment with two variants.",
            [sql(AB_TESTS, as_table=True)],
            size=(24, 7),
            columns={"Quality a": "percentunit", "Quality b": "percentunit", "Started": UNITS["Started"]},
        ),
    ]
    chosen = variable(
        "experiment",
        "Experiment",
        "SELECT key FROM experiments ORDER BY status = 'running' DESC, started_at DESC",
    )
    return dashboard(
        "promptbandit-variants",
        "Variant comparison",
        "Which prompt variant is better, how sure we are, and whether the numbers can be trusted.",
        panels,
        since="now-7d",
        variables=[chosen],
    )
