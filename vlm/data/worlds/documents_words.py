"""What documents are made of: shops, places, people, goods and their prices, fields of forms, columns of tables."""

import random

from vlm.data.worlds.language import pick
from vlm.data.worlds.text_words import WORDS_OF

# name: usual price in cents
GOODS = {
    name: int(price)
    for line in """
Tea 180, Milk 120, Bread 210, Eggs 340, Rice 450, Salt 90, Sugar 160, Flour 190, Butter 310, Cheese 520, Yogurt 140,
Apples 280, Bananas 150, Lemons 110, Grapes 390, Onions 130, Carrots 120, Potatoes 240, Tomato 220, Garlic 80, Corn
160, Honey 640, Jam 330, Coffee 380, Juice 260, Water 100, Cola 170, Soda 150, Beer 420, Wine 1250, Cake 450, Cookies
290, Candy 130, Chips 180, Nuts 410, Pasta 170, Noodles 240, Soup 350, Salad 620, Pizza 980, Burger 750, Fries 320,
Steak 1890, Chicken 840, Fish 1120, Ham 460, Sausage 540, Bacon 480, Taco 390, Curry 890, Omelette 670, Sandwich 590,
Bagel 250, Muffin 280, Croissant 260, Latte 430, Espresso 270, Mocha 460, Green Tea 310, Iced Tea 290, Hot Choc 370,
Ice Cream 410, Soap 190, Shampoo 560, Toothpaste 330, Towel 790, Tissue 140, Razor 680, Comb 220, Lotion 870, Sponge
110, Bleach 250, Broom 940, Bucket 530, Mop 1150, Gloves 380, Candle 270, Matches 60, Battery 690, Bulb 440, Cable
820, Plug 360, Tape 210, Glue 180, Nails 150, Screws 230, Hammer 1490, Paint 2350, Brush 310, Saw 1780, Hinge 270,
Hose 1990, Lock 1340, Key Cut 500, Pen 120, Pencil 70, Eraser 50, Ruler 140, Notebook 330, Folder 190, Stapler 760,
Envelope 90, Stamps 480, Paper A4 590, Marker 210, Map 650, Magazine 490, Novel 1190, Atlas 2890, Card 260, Wrap 240,
Balloon 100, Toy Car 880, Puzzle 1290, Doll 1690, Ball 740, Kite 1090, Shirt 2490, Socks 430, Scarf 1590, Hat 1390,
Belt 1890, Jeans 4990, Shoes 6490, Jacket 8900, Umbrella 1450, Wallet 2790, Watch 7950, Ring 9900, Rose 320, Seeds
160, Soil 690, Plant Pot 830, Parking 600, Car Wash 1200, Petrol 4200, Oil Filter 1560, Tyre 7400, Air Fresh 350, Dog
Food 1340, Cat Litter 970, Bird Seed 460, Vitamin C 1150, Aspirin 380, Bandage 290, Thermometer 1640, Cough Syrup 780,
Masks 490, Haircut 1800, Massage 4500, Entry 950, Locker 200
""".replace("\n", " ").split(",")
    for name, _, price in [line.strip().rpartition(" ")]
}  # fmt: skip

FIRST = """
Ana Ben Carl Dana Eva Finn Gina Hugo Ida Jack Kim Leo Mia Nina Omar Pia Quinn Rosa Sam Tara Uma Vera Will Yara Zoe
Adam Bella Cora David Ella Frank Grace Hana Ivan Julia Kevin Laura Maria Noah Olga Peter Ravi Sofia Tom Victor Wendy
Amir Bruno Chloe Diego Elena Farah George Helen Isaac Jin Karen Lucas Mei Nadia Oscar Paul Rita Simon Teresa
""".split()
LAST = """
Adams Baker Chen Diaz Evans Ford Garcia Hall Ito Jones Khan Lee Moore Novak Olsen Patel Quist Ruiz Silva Tan Usman
Vega White Xu Young Zhou Ali Bauer Clark Dubois Ellis Fischer Grant Hughes Ivanov Jensen Kaya Lopez Meyer Nair Osei
Price Reed Sato Torres Weber Wong Yilmaz Becker Costa Haddad Kim Lind Marino Okoye Popov Rossi
""".split()
STREETS = """
Oak Elm Pine High Main Park Mill Lake Hill King Queen Church River Station Market Garden Bridge Spring Maple Cedar
North South West East Castle Victoria Harbor Forest School Temple Sunset Canal Orchard Chapel Rose
""".split()
CITIES = """
Bath Leeds York Derby Perth Salem Dover Austin Boston Denver Dallas Miami Seattle Cardiff Bristol Oxford Dublin Penang
Ipoh Melaka Kedah Lagos Accra Nairobi Delhi Mumbai Manila Cebu Lisbon Porto Malaga Turin Milan Lyon Nice Bergen Oslo
Malmo Aarhus Vienna Graz Basel Bern Zagreb Split Brno Gdansk Riga Quito Lima Cusco Bogota
""".split()
TRADES = """
Mart Store Cafe Bakery Market Grill Diner Books Pharmacy Hardware Foods Bistro Deli Grocery Trading Stationery Florist
Motors Electric Kitchen House Corner Supplies Optics Sports Toys Garage Salon Hotel Restaurant
""".split()
COMPANY = ("", "", "", " Ltd", " Inc", " Co", " Sdn Bhd", " LLC", " & Sons", " Group")

FORMS = ("Registration", "Application", "Order Form", "Delivery Note", "Member Card", "Visitor Pass", "Claim Form",
         "Patient Record", "Booking", "Survey", "Entry Form", "Work Order", "Request", "Repair Slip")  # fmt: skip
BOXES = ("Member", "Student", "Married", "Newsletter", "Insured", "Smoker", "Urgent", "Paid", "Gift", "Fragile",
         "Air Mail", "Vegan", "Parking", "Breakfast", "Express", "Pickup", "Allergy", "Male", "Female", "New",
         "Used", "Owner", "Tenant", "Morning", "Evening", "Cash", "Card", "Email", "Phone", "Visa", "Single",
         "Double")  # fmt: skip

# heading of the first column, its entries, the columns that may stand beside them with their range
TABLES = (
    ("City", CITIES, {"Rain": (0, 99), "Sun": (0, 31), "Hotels": (3, 400), "Temp": (2, 39), "Parks": (1, 60)}),
    ("Name", FIRST, {"Age": (18, 80), "Score": (0, 100), "Wins": (0, 30), "Goals": (0, 45), "Points": (5, 250)}),
    ("Item", list(GOODS),
     {"Stock": (0, 500), "Sold": (0, 99), "Price": (1, 90), "Weight": (1, 60), "Orders": (1, 300)}),
    ("Team", LAST, {"Won": (0, 20), "Lost": (0, 20), "Draws": (0, 12), "Points": (3, 99), "Rank": (1, 40)}),
    ("Month",
     "January February March April May June July August September October November December".split(),
     {"Sales": (10, 999), "Costs": (10, 900), "Visits": (5, 5000), "Orders": (1, 400), "Staff": (2, 90)}),
    ("Day", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
     {"Steps": (900, 19000), "Hours": (1, 12), "Calls": (0, 80), "Guests": (0, 300), "Rooms": (1, 75)}),
)  # fmt: skip


def person(rng: random.Random) -> str:
    return f"{pick(rng, FIRST)} {pick(rng, LAST)}"


def street(rng: random.Random) -> str:
    n = rng.randrange(1, pick(rng, (10, 100, 400)))
    return f"{n} {pick(rng, STREETS)} {pick(rng, ('St', 'Street', 'Road', 'Rd', 'Ave', 'Lane', 'Drive'))}"


def city(rng: random.Random) -> str:
    name, u = pick(rng, CITIES), rng.random()
    return (
        f"{rng.randrange(10000, 99999)} {name}"
        if u < 0.5
        else name
        if u < 0.75
        else f"{name} {rng.randrange(100, 9999)}"
    )


def phone(rng: random.Random) -> str:
    a, b, c = rng.randrange(20, 100), rng.randrange(200, 1000), rng.randrange(1000, 10000)
    return pick(rng, (f"{b}-{c}", f"0{a}-{b} {c}", f"({b}) {a}{c}", f"+{a} {b} {c}", f"0{a}{b}{c}"))


def shop(rng: random.Random) -> str:
    """A name that no list holds whole: a word or a person, a trade, a legal form."""
    u = rng.random()
    word = pick(rng, WORDS_OF[3 + int(rng.random() * 6)]).title()
    name = (
        word
        if u < 0.5
        else f"{pick(rng, LAST)}'s"
        if u < 0.65
        else f"{pick(rng, CITIES)} {word}"
        if u < 0.75
        else pick(rng, LAST)
    )
    return f"{name} {pick(rng, TRADES)}{pick(rng, COMPANY)}"


def code(rng: random.Random) -> str:
    """A number of a slip, an order, a member."""
    n, u = rng.randrange(100, pick(rng, (10**4, 10**5, 10**6))), rng.random()
    return (
        str(n)
        if u < 0.4
        else f"{n:06}"
        if u < 0.6
        else f"{pick(rng, 'ABCDEFGHKMNPRSTWX')}{n}"
        if u < 0.8
        else f"{pick(rng, 'ABCDEFGHKMNPRSTWX')}-{n}"
    )


def email(rng: random.Random) -> str:
    return f"{pick(rng, FIRST).lower()}@{pick(rng, WORDS_OF[4])}.{pick(rng, ('com', 'org', 'net'))}"
