//! A report with every kind of table and figure, of made-up numbers. Every string ends in `tail`.

use tarrl_report::{
    Axis, Best, Cell, Chart, Column, Drawing, Estimate, Figure, GridRow, Heading, ImageGrid, Job, Keys, Mark,
    Picture, Point, Provenance, Published, Reference, Report, Scale, Series, Table,
};

pub(crate) fn report(tail: &str) -> Report {
    let say = |text: &str| format!("{text}{tail}");
    Report {
        title: say("Robust representations without labels"),
        claim: say("At ε = 0.1 the SimCLR encoder has fallen below chance; TARR keeps 32 points."),
        subject: say("TARR, λ = 8"),
        tables: vec![robustness(&say), bound(&say)],
        figures: vec![curve(&say), tradeoff(&say), scatter(&say), images(&say)],
        provenance: Provenance {
            version: say("0.1.0 (3f2a9c1)"),
            machine: say("2 cores, 8 GiB, Linux"),
            command: say("cargo xtask reproduce --profile default"),
            seeds: vec![0, 1, 2],
            jobs: vec![Job { key: say("9d1c44e07b"), title: say("pre-train SimCLR, seed 0") }],
            facts: vec![(say("Data"), say("fashion-mnist sample, sha256 5be3…"))],
        },
    }
}

type Say<'a> = &'a dyn Fn(&str) -> String;

fn robustness(say: Say) -> Table {
    let attacks = [("", "clean", None), ("PGD-20", "ε = 0.05", Some(0.05)), ("PGD-20", "ε = 0.1", Some(0.1))];
    let mut table = Table {
        id: "T1".into(),
        title: say("Robustness"),
        caption: say("Is it more robust than the baselines? Linear head trained on clean data."),
        stub: say("method"),
        notes: vec![say("Accuracy in per cent.")],
        ..Table::default()
    };
    for (group, label, _) in attacks {
        let group = if group.is_empty() { String::new() } else { say(group) };
        table.columns.push(Column {
            group,
            label: say(label),
            best: Some(Best::Highest),
            ..Column::default()
        });
    }
    table.columns.push(Column { group: say("published"), label: say("clean"), ..Column::default() });
    let rows = [
        ("SimCLR", [78.04, 6.12, 0.43], Some(80.1)),
        ("TARR, λ = 3", [79.11, 51.63, 28.24], None),
        ("TARR, λ = 8", [77.82, 55.11, 32.49], None),
    ];
    for (name, means, published) in rows {
        let keys = |attack: &str, epsilon| Keys {
            dataset: say("fashion-mnist"),
            protocol: say("linear"),
            attack: say(attack),
            epsilon,
            metric: say("accuracy"),
        };
        let ours = means.iter().zip(attacks).map(|(&mean, (_, label, epsilon))| {
            let missing = name == "TARR, λ = 3" && epsilon == Some(0.05);
            let half_width = Some(0.2 + 0.01 * mean);
            (!missing).then(|| Cell::measured(Estimate { mean, half_width, n: 3 }, keys(label, epsilon)))
        });
        let mut cells: Vec<_> = ours.collect();
        cells.push(published.map(|value| {
            Cell::published(Published { value, source: say("Somebody 2020, table 1") }, keys("none", None))
        }));
        table.push_row(say(name), cells);
    }
    table
}

fn bound(say: Say) -> Table {
    let labels = ["clean loss", "measured adversarial loss", "bound", "ratio"];
    let column = |label: &str| Column { label: say(label), decimals: 3, ..Column::default() };
    let mut table = Table {
        id: "T5".into(),
        title: say("The bound"),
        caption: say("Does the bound hold and how tight is it?"),
        stub: say("task"),
        columns: labels.map(column).to_vec(),
        ..Table::default()
    };
    for (i, task) in ["10 classes", "coarse grouping", "random labels 1"].iter().enumerate() {
        let (clean, attacked, limit) = (0.6 + i as f64, 1.4 + i as f64, 2.75 + 3.1 * i as f64);
        let cell = |mean| {
            Some(Cell::measured(
                Estimate { mean, half_width: None, n: 1 },
                Keys { dataset: say(task), ..Keys::default() },
            ))
        };
        table.push_row(say(task), [clean, attacked, limit, limit / attacked].map(cell).to_vec());
        // Two groups of rows on the page.
        let group = say(if i == 0 { "classes" } else { "others" });
        table.rows[i].page = Some(Heading { group, label: say(task) });
    }
    table
}

fn curve(say: Say) -> Figure {
    let series = [("SimCLR", 60.0), ("TARR, λ = 3", 10.5), ("TARR, λ = 8", 8.5)].map(|(name, rate)| Series {
        label: say(name),
        points: (0..9)
            .map(|i| {
                let x = 0.025 * f64::from(i);
                Point { x, y: 78.0 * (-rate * x).exp(), half_width: Some(2.5), label: String::new() }
            })
            .collect(),
        mark: Mark::Band,
    });
    let chart = Chart {
        x: Axis { title: say("ε (pixels in [0, 1])"), ..Axis::default() },
        y: Axis { title: say("accuracy under PGD-20 (%)"), range: Some((0.0, 100.0)), ..Axis::default() },
        series: series.to_vec(),
        references: vec![Reference::level(10.0, say("chance"))],
    };
    figure("F1", say("Accuracy against ε"), say("A curve per method, with its 95 % interval."), chart)
}

fn tradeoff(say: Say) -> Figure {
    let series = ["relative l2", "l2", "cosine"].iter().enumerate().map(|(k, name)| Series {
        label: say(name),
        points: [0.5f64, 1.0, 2.0, 4.0, 8.0]
            .iter()
            .map(|&weight| Point {
                x: 80.0 - 0.3 * weight - k as f64,
                y: (30.0 - 7.0 * k as f64) * (1.0 - (-0.5 * weight).exp()),
                half_width: Some(1.0),
                label: if k == 0 { say(&format!("λ = {weight}")) } else { String::new() },
            })
            .collect(),
        mark: Mark::Path,
    });
    let chart = Chart {
        x: Axis { title: say("clean accuracy (%)"), ..Axis::default() },
        y: Axis { title: say("accuracy under PGD-20, ε = 0.1 (%)"), ..Axis::default() },
        series: series.collect(),
        references: vec![],
    };
    figure("F2", say("Clean against robust accuracy"), say("Each path follows λ for one divergence."), chart)
}

fn scatter(say: Say) -> Figure {
    let series = ["linear head", "random labels"].iter().enumerate().map(|(k, name)| Series {
        label: say(name),
        points: (0..25)
            .map(|i| {
                let x = 0.02 * 1.35f64.powi(i);
                let y = x * (0.15 + 0.03 * f64::from(i * 7 % 11) + 0.2 * k as f64);
                Point { x, y, ..Point::default() }
            })
            .collect(),
        mark: Mark::Points,
    });
    let chart = Chart {
        x: Axis { title: say("bound"), scale: Scale::Log, ..Axis::default() },
        y: Axis { title: say("measured adversarial loss"), scale: Scale::Log, ..Axis::default() },
        series: series.collect(),
        references: vec![Reference::identity(say("y = x"))],
    };
    let panels = [0.05, 0.1].map(|epsilon| (say(&format!("ε = {epsilon}")), chart.clone()));
    Figure {
        drawing: Drawing::Panels(panels.to_vec()),
        ..figure("F3", say("Measured loss against bound"), say("Every point lies below the line."), chart)
    }
}

fn images(say: Say) -> Figure {
    let gray = |shift: usize| {
        let bytes = (0..28 * 28).map(|i| ((i % 28) * 9 + shift * (i / 28)) as u8).collect();
        Picture::new([28, 28, 1], bytes)
    };
    let rgb = Picture::new([8, 8, 3], (0..8 * 8 * 3).map(|i| i as u8).collect());
    let row = |name: &str, last: Picture| GridRow {
        label: say(name),
        images: vec![
            (gray(0), say("ankle boot")),
            (gray(5), say("|δ| ≤ 0.1")),
            (gray(2), say("read as sandal")),
            (last, say("read as ankle boot")),
        ],
    };
    let headings = ["clean", "perturbation × 5", "attacked, SimCLR", "attacked, TARR"];
    Figure {
        id: "F4".into(),
        title: say("What the attacks look like"),
        caption: say("One test image per row."),
        drawing: Drawing::Grid(ImageGrid {
            columns: headings.map(say).to_vec(),
            rows: vec![row("boot", gray(3)), row("coat", rgb)],
        }),
    }
}

fn figure(id: &str, title: String, caption: String, chart: Chart) -> Figure {
    Figure { id: id.into(), title, caption, drawing: Drawing::Chart(chart) }
}
