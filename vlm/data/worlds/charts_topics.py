"""What charts are about: pools of category names, measures, and palettes of colours that people name alike.

Any measure meets any pool, sense or no sense: what a chart says is to be read, not known beforehand.
"""

from typing import NamedTuple

from vlm.data.worlds.draw import RGB


class Pool(NamedTuple):
    """Names of one kind; `at` is the preposition of a value: in Peru, of pears, on Monday."""

    noun: str
    at: str
    names: tuple[str, ...]
    ordered: bool = False  # drawn in the order of the pool, without gaps


class Measure(NamedTuple):
    """A quantity, in the singular; `form` is "integer", "decimal", "percent" or "large"."""

    name: str
    form: str
    unit: str = ""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


# fmt: off
POOLS = (
    Pool("country", "in", _names(
        "Peru, Chile, Cuba, Brazil, Mexico, Canada, Spain, France, Italy, Germany, Poland, Norway, Sweden, Finland, "
        "Denmark, Greece, Turkey, Egypt, Kenya, Ghana, Mali, Chad, Niger, India, China, Japan, Nepal, Iran, Iraq, "
        "Oman, "
        "Vietnam, Laos, Fiji, Samoa, Tonga, Malta, Cyprus, Ireland, Iceland, Austria, Hungary, Serbia, Albania, "
        "Nigeria, Sudan, Angola, Zambia, Togo, Benin, Gabon, Panama, Haiti, Jamaica, Bolivia, Ecuador, Uruguay, "
        "Mongolia, South Africa, New Zealand, Sri Lanka, Costa Rica")),
    Pool("city", "in", _names(
        "Paris, London, Rome, Berlin, Madrid, Lisbon, Vienna, Prague, Oslo, Dublin, Athens, Cairo, Lagos, Nairobi, "
        "Delhi, Mumbai, Tokyo, Osaka, Seoul, Hanoi, Manila, Sydney, Perth, Lima, Quito, Bogota, Boston, Denver, "
        "Dallas, "
        "Austin, Miami, Toronto, Geneva, Zurich, Munich, Milan, Naples, Porto, Seville, New York, San Diego")),
    Pool("region", "in", _names(
        "North, South, East, West, Central, Northeast, Southwest, Asia, Africa, Europe, Oceania, Coast, Valley, "
        "Islands")),
    Pool("fruit", "of", _names(
        "Apples, Pears, Plums, Grapes, Figs, Kiwis, Lemons, Limes, Mangos, Melons, Peaches, Cherries, Bananas, "
        "Oranges, "
        "Dates, Berries, Papayas, Apricots")),
    Pool("crop", "of", _names("Rice, Wheat, Corn, Oats, Barley, Rye, Soy, Cotton, Sugar, Tea, Coffee, Cocoa, "
        "Potatoes, Beans")),
    Pool("animal", "of", _names(
        "Cats, Dogs, Cows, Goats, Sheep, Pigs, Horses, Ducks, Hens, Bees, Owls, Foxes, Bears, Wolves, Seals, Whales, "
        "Rabbits, Deer, Lions, Tigers")),
    Pool("product", "of", _names(
        "Phones, Laptops, Tablets, Cameras, Chairs, Tables, Lamps, Shoes, Shirts, Hats, Books, Toys, Bikes, Watches, "
        "Radios, Printers, Pens, Cups, Sofas, Beds")),
    Pool("material", "of", _names("Steel, Copper, Iron, Gold, Silver, Zinc, Lead, Tin, Glass, Paper, Plastic, Wood, "
        "Wool, Clay")),
    Pool("energy source", "from", _names("Coal, Oil, Gas, Solar, Wind, Hydro, Nuclear, Biomass, Tidal, Peat")),
    Pool("subject", "in", _names(
        "Math, Physics, Biology, History, Art, Music, English, Latin, Drama, Sports, Geography, Chemistry, Economics, "
        "Law")),
    Pool("sport", "in", _names(
        "Soccer, Tennis, Golf, Rugby, Hockey, Boxing, Rowing, Judo, Chess, Skiing, Cycling, Running, Swimming, "
        "Cricket")),
    Pool("department", "in", _names(
        "Sales, Legal, Finance, Design, Support, Research, Marketing, Logistics, Security, Personnel, Planning")),
    Pool("company", "at", _names(
        "Alpha, Nova, Zenith, Orion, Vega, Delta, Apex, Lumen, Quanta, Sigma, Titan, Atlas, Cobalt, Helix, Pixel, "
        "Umbra")),
    Pool("team", "for", _names(
        "Reds, Blues, Hawks, Eagles, Sharks, Giants, Rockets, Comets, Kings, Pirates, Rangers, Saints, Falcons, "
        "Bulls")),
    Pool("group", "for", _names(
        "A, B, C, D, E, F, G, H, Men, Women, Adults, Children, Teens, Students, Workers, Retired")),
    Pool("answer", "for", _names(
        "Yes, No, Maybe, Never, Always, Often, Rarely, Agree, Disagree, Neutral, Unsure, Good, Bad, Fair, Excellent")),
    Pool("method", "for", _names(
        "Bus, Car, Train, Tram, Walking, Bike, Ferry, Plane, Taxi, Metro, Email, Letter, Phone, Radio, Video")),
    Pool("age group", "for", _names("0-9, 10-19, 20-29, 30-39, 40-49, 50-59, 60-69, 70-79, 80-89"), True),
    Pool("month", "in", _names("Jan, Feb, Mar, Apr, May, Jun, Jul, Aug, Sep, Oct, Nov, Dec"), True),
    Pool("month", "in", _names(
        "January, February, March, April, May, June, July, August, September, October, November, December"), True),
    Pool("day", "on", _names("Mon, Tue, Wed, Thu, Fri, Sat, Sun"), True),
    Pool("day", "on", _names("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"), True),
    Pool("quarter", "in", _names("Q1, Q2, Q3, Q4"), True),
    Pool("week", "in", tuple(f"W{n}" for n in range(1, 13)), True),
)
YEARS = Pool("year", "in", tuple(str(y) for y in range(1950, 2031)), True)
TIMES = ("year", "month", "day", "quarter", "week")

MEASURES = (
    Measure("population", "integer", "millions"), Measure("population", "large"), Measure("rainfall", "decimal", "mm"),
    Measure("price", "decimal", "dollars"), Measure("price", "integer", "euros"), Measure("cost", "integer", "dollars"),
    Measure("number of visitors", "large"), Measure("number of students", "integer"), Measure("income", "large",
    "dollars"),
    Measure("profit", "integer", "millions"), Measure("revenue", "decimal", "billions"), Measure("revenue", "large"),
    Measure("share", "percent"), Measure("market share", "percent"), Measure("unemployment rate", "percent"),
    Measure("literacy rate", "percent"), Measure("approval", "percent"), Measure("growth rate", "decimal"),
    Measure("score", "integer", "points"), Measure("test score", "integer"), Measure("weight", "decimal", "kg"),
    Measure("height", "integer", "cm"), Measure("speed", "integer", "km/h"), Measure("energy use", "integer", "kWh"),
    Measure("production", "large", "tons"), Measure("production", "integer", "tons"), Measure("average age", "integer"),
    Measure("waiting time", "integer", "minutes"), Measure("distance", "integer", "km"), Measure("demand", "decimal"),
    Measure("output", "integer"), Measure("output", "large"), Measure("number of cases", "large"),
    Measure("number of books", "integer"), Measure("attendance", "large"), Measure("sleep time", "decimal", "hours"),
    Measure("fuel use", "decimal", "liters"), Measure("turnout", "percent"), Measure("debt", "decimal", "billions"),
    Measure("area", "integer"), Measure("depth", "integer", "m"), Measure("rating", "decimal"), Measure("traffic",
    "large"),
)

PALETTES: dict[str, dict[str, RGB]] = {
    "vivid": {"red": (218, 34, 40), "blue": (40, 85, 220), "green": (40, 160, 70), "orange": (245, 135, 20),
              "purple": (130, 50, 175), "yellow": (240, 205, 30), "pink": (250, 135, 190), "black": (24, 24, 24)},
    "classic": {"blue": (31, 119, 180), "orange": (255, 127, 14), "green": (44, 160, 44), "red": (214, 39, 40),
                "purple": (148, 103, 189), "brown": (140, 86, 75), "pink": (227, 119, 194), "gray": (127, 127, 127)},
    "office": {"blue": (68, 114, 196), "orange": (237, 125, 49), "gray": (160, 160, 160), "yellow": (250, 190, 0),
               "green": (112, 173, 71), "dark blue": (32, 56, 100), "brown": (140, 66, 20)},
    "deep": {"blue": (76, 114, 176), "orange": (221, 132, 82), "green": (85, 168, 104), "red": (196, 68, 72),
             "purple": (129, 104, 179), "pink": (222, 139, 195), "gray": (130, 130, 130)},
    "pastel": {"light blue": (140, 185, 232), "light green": (150, 215, 140), "pink": (245, 165, 195),
               "yellow": (245, 222, 110), "orange": (250, 180, 105), "light purple": (190, 165, 220)},
    "blues": {"dark blue": (10, 48, 115), "blue": (45, 125, 210), "light blue": (150, 200, 235),
              "gray": (130, 130, 130)},
    "greens": {"dark green": (0, 84, 50), "green": (60, 170, 85), "light green": (165, 220, 150),
               "gray": (130, 130, 130)},
    "press": {"red": (205, 35, 45), "black": (28, 28, 28), "gray": (150, 150, 150), "dark blue": (20, 60, 120),
              "light blue": (120, 185, 225)},
    "earth": {"brown": (125, 75, 35), "orange": (225, 140, 50), "dark green": (45, 95, 55), "yellow": (225, 195, 80),
              "red": (175, 50, 40)},
}
# fmt: on
