"""Pictures that others have made: chosen from folders, by what they show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.format.labels import imagenet_labels

# Of openclipart-png: what they show is no class of ImageNet or CIFAR-10.
SYMBOLS = (
    *("signs_and_symbols/flags", "signs_and_symbols/map_symbols", "signs_and_symbols/weather"),
    *("shapes", "shapes/arrows", "shapes/flowchart", "shapes/stars", "special/patterns"),
    *("special/gradients", "recreation/religion", "people", "people/smilies", "people/stickmen"),
)
OF_EACH_FOLDER = 16
# Of tuxpaint-stamps-default: photos, cut out, of what is no class of ImageNet. Names are without
# `.png`, below their folder.
STAMPS = {
    "food/vegetables": "tomato garlics onion lettuce chilepepper redlettuce potato garlic yam "
    "eggplant carrot",
    "food/nuts": "pecan walnut almond walnut_shelled",
    "food/spices": "ginger",
    "food/fruit": "apple_red pear grapes raspberry avocado mango Apricot_whole kiwi apricot "
    "Cherry_Stella",
    "plants": "lettuce_bolted thyme lavender",
    "plants/trees": "tree336 holly_leaves holm_oak pinecone liberia-palm rambutan birch",
    "plants/flowers": "rose appooppanthady daffodil adeenia flower6 flower1 marigold iris flower8 "
    "flower10 yellow-flower red-gazania whitestar-petunia flower9 flower3 flower2 anthoorium "
    "pigface anemone_red chemparathi flower7 flower4 bolsom flower5",
    "symbols/money/us/coins": "005nickel 100sacagawea 001penny 025quarter 010dime "
    "050kennedy-halfdollar",
    "symbols/money/euro/coins": "001 200 100 005 050 002 010 020",
    "symbols/money/canadian/coins": "005nickel 001penny 100loonie 025quarter 010dime 200toonie",
    "symbols/money/japanese": "yen100 yen010 yen500 yen001 yen005 yen050",
    "naturalforces": "fire explosion lightningbolt",
    "space/moon": "moon_crescent moon_3qt moon_full",
    "space/planets": "0_sun 6_saturn 9_pluto 3_earth 8_neptune 2_venus 7_uranus 1_mercury 4_mars "
    "5_jupiter",
    "household/tools": "wrench plyers wrench_adjustable wrench_plumbers",
    "household": "key Lightbulb",
    "medical": "bandage_adhesive tooth",
    "animals/mammals": "giraffe rhino_black",
    "animals/mammals/aquatic": "dolphin",
    "animals/mammals/deer": "wapiti doe deer caribou",
    "animals/mammals/rodents": "rat mouse capybara",
    "animals/birds": "pigeon crow silver-gull seagull turkey cuckoo lark blackbird",
}
# Classes of ImageNet that are of CIFAR-10: ranges of indices (birds, cats, dogs, frogs) and labels.
KNOWN = (*range(7, 25), *range(80, 101), *range(127, 147), *range(281, 286), *range(151, 269))
KNOWN_FROGS = (30, 31, 32)
KNOWN_LABELS = [
    "airliner",
    "warplane",
    "ambulance",
    "beach wagon",
    "cab",
    "convertible",
    "jeep",
    "limousine",
    "minivan",
    "Model T",
    "racer",
    "sports car",
    "fire engine",
    "garbage truck",
    "moving van",
    "tow truck",
    "trailer truck",
    "pickup",
    "sorrel",
    "container ship",
    "liner",
    "fireboat",
    "pirate",
    "schooner",
    "yawl",
    "catamaran",
    "trimaran",
    "speedboat",
    "aircraft carrier",
]
# Neither of CIFAR-10 nor clearly not: wolves, foxes and wild cats, and labels.
DOUBTFUL = (*range(269, 281), *range(286, 294))
DOUBTFUL_LABELS = [
    "police van",
    "minibus",
    "school bus",
    "trolleybus",
    "recreational vehicle",
    "half track",
    "tractor",
    "snowplow",
    "passenger car",
    "tank",
    "wing",
    "space shuttle",
    "airship",
    "zebra",
    "impala",
    "hartebeest",
    "gazelle",
    "water buffalo",
    "ox",
    "bison",
    "ram",
    "bighorn",
    "ibex",
    "gondola",
    "canoe",
    "lifeboat",
    "wreck",
    "submarine",
    "paddlewheel",
    "horse cart",
    "oxcart",
    "amphibian",
    "car wheel",
    "grille",
    "car mirror",
    "golfcart",
    "dock",
    "breakwater",
    "llama",
    "Arabian camel",
]


def linked(files: Sequence[Path], count: int, folder: Path) -> None:
    """Links to a fixed random choice of files."""
    folder.mkdir(parents=True)
    for index in np.random.default_rng(0).permutation(len(files))[:count]:
        file = files[index].resolve()
        (folder / f"{file.parent.name}-{file.name}").symlink_to(file)


def stamps(source: Path, folder: Path) -> None:
    """The photos among the stamps of Tux Paint, over white."""
    folder.mkdir(parents=True)
    for place, names in STAMPS.items():
        for name in names.split():
            target = folder / f"{place.replace('/', '-')}-{name}.png"
            _over_white(source / place / f"{name}.png").save(target)


def cliparts(source: Path, folder: Path) -> None:
    """Drawings of the Open Clip Art Library, over white."""
    folder.mkdir(parents=True)
    for place in SYMBOLS:
        files = sorted((source / place).glob("*.png"))
        for index in np.random.default_rng(0).permutation(len(files))[:OF_EACH_FOLDER]:
            picture = _over_white(files[index])
            picture.thumbnail((600, 600))
            if min(picture.size) >= 64:  # the others are icons, or very long
                picture.save(folder / f"{place.replace('/', '-')}-{files[index].stem}.png")


def of_no_cifar_class(photos: Path) -> list[Path]:
    """The photos of ImageNet that show no class of CIFAR-10, without doubtful ones."""
    labels, ids = imagenet_labels()
    named = {*KNOWN_LABELS, *DOUBTFUL_LABELS}
    left_out = {index for index, label in enumerate(labels) if label in named}
    left_out |= {*KNOWN, *KNOWN_FROGS, *DOUBTFUL}
    index = {each: number for number, each in enumerate(ids)}
    found = []
    for file in sorted(path for path in photos.rglob("*") if path.is_file()):
        parts = [file.name.partition("_")[0], file.parent.name]
        known = next((index[part] for part in parts if part in index), None)
        if known is not None and known not in left_out:
            found.append(file)
    return found


def _over_white(file: Path) -> Image.Image:
    with Image.open(file) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return white.convert("RGB")
