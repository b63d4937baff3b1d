"""Pictures of the pages of Prefect's UI, each taken when the page shows what it is there for."""

from pathlib import Path

from tests.browser import open_browser, open_page
from tests.e2e.prefect_server import Prefect

RENDER_MS = 3_000  # for the timeline of a run, which is drawn after its words are there
RECIPE = "small"


def take_pictures(prefect: Prefect, run_id: str, folder: Path) -> list[Path]:
    """Open the pages of a run of the recipe ``small``, which is deployed, and save a picture of each.

    Raises:
        playwright's TimeoutError: if a page does not show its words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_run = {"flow_run_id": {"any_": [run_id]}}
    artifacts = prefect.post("/artifacts/filter", artifacts=of_run, limit=200)
    ids = {str(item["key"]).removeprefix(f"{RECIPE}-"): item["id"] for item in artifacts}
    run = f"/runs/flow-run/{run_id}"
    pages = {
        "runs": ("/runs", f"pipeline {RECIPE}"),
        "run": (run, "acquire dump: 66 in, 63 kept"),
        "run-artifacts": (f"{run}?tab=Artifacts", f"{RECIPE}-funnel"),
        "funnel": (f"/artifacts/artifact/{ids['funnel']}", "annotate dump"),
        "loss": (f"/artifacts/artifact/{ids['loss']}", "Loss in nats per token"),
        "evaluation": (f"/artifacts/artifact/{ids['evaluation']}", "all held-out text"),
        "lineage": (f"/artifacts/artifact/{ids['lineage']}", "made from"),
        "report": (f"/artifacts/artifact/{ids['report']}", "Bits per byte"),
        "deployments": ("/deployments", f"{RECIPE}-corpus"),
        "automations": ("/automations", RECIPE),
    }
    if "samples" in ids:  # a later run replaces them
        pages["samples"] = (f"/artifacts/artifact/{ids['samples']}", "continues")
    pictures = []
    with open_browser() as browser:
        page = open_page(browser)
        for name, (path, words) in pages.items():
            page.goto(f"{prefect.api.removesuffix('/api')}{path}")
            if path.endswith("?tab=Artifacts"):
                page.get_by_text("Artifacts", exact=True).last.click()
            if path == "/deployments":  # of all recipes, ten on a page
                page.get_by_placeholder("Search deployments").fill(f"{RECIPE}-")
            page.get_by_text(words).first.wait_for()
            for image in page.locator("img[src^='data:']").all():
                assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
            page.wait_for_timeout(RENDER_MS)
            pictures.append(folder / f"prefect-{name}.png")
            page.screenshot(path=pictures[-1])
    return pictures
