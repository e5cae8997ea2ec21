"""How the worlds `text` and `documents` put their questions: key -> (phrasings for training, held out for "test")."""

from vlm.data.worlds.language import Phrasings

# fmt: off
# {c} "a k" or a colour, {n} a number, {o} "first" .. "last", {kind} "letter", "word", "date" .., {w} a word in quotes,
# {place} "at the top", {where} "after" or "before"
TEXT: Phrasings = {
    "word": (
        ("What does it say?", "What word is written?", "What is written here?", "Which word is this?",
         "Read the text.", "What word do you read?", "What is the word?", "Tell me the word."),
        ("Tell me what is written.", "Which word do you read?", "Which word is written here?"),
    ),
    "string": (
        ("What does it say?", "What is written here?", "Read the text.", "What do you read?", "What is the text?",
         "What is written?"),
        ("Tell me what is written.", "What does the text say?", "Tell me what you read."),
    ),
    "all": (
        ("What does the sign say?", "What does it say?", "Read the sign.", "Read the text.", "What is written here?",
         "Read all lines.", "What is the text?", "Tell me what the text says.", "What is written on the sign?"),
        ("Tell me what the sign says.", "Read all of the text.", "What do you read on the sign?"),
    ),
    "value": (
        ("What is the {kind}?", "What {kind} is shown?", "Which {kind} is this?", "What {kind} is written?",
         "What {kind} do you read?", "Tell me the {kind}.", "Read the {kind}.", "Which {kind} does the text show?"),
        ("Which {kind} do you read?", "What {kind} is written here?", "Tell me which {kind} is shown."),
    ),
    "letter": (
        ("What is the {o} {kind}?", "Which {kind} comes {o}?", "Name the {o} {kind}.", "Tell me the {o} {kind}.",
         "What {kind} comes {o}?", "Which {kind} is {o}?"),
        ("Which is the {o} {kind}?", "Read the {o} {kind}.", "Tell me which {kind} comes {o}."),
    ),
    "has": (
        ("Is there {c} in the text?", "Does the text contain {c}?", "Does it contain {c}?", "Is there {c}?",
         "Do you see {c}?", "Can you find {c} in the text?", "Does the text have {c}?"),
        ("Can you find {c}?", "Do you see {c} in the text?", "Does it have {c}?"),
    ),
    "length": (
        ("How many {kind}s are there?", "How many {kind}s does it have?", "How many {kind}s do you see?",
         "What is the number of {kind}s?", "Count the {kind}s.", "How many {kind}s are in the text?"),
        ("How many {kind}s does the text have?", "How many {kind}s can you see?", "Tell me the number of {kind}s."),
    ),
    "greater": (
        ("Is the number greater than {n}?", "Is it more than {n}?", "Is it greater than {n}?",
         "Is this number greater than {n}?", "Is the number shown more than {n}?",
         "Do you see a number greater than {n}?"),
        ("Is the number more than {n}?", "Is this number more than {n}?", "Is the number shown greater than {n}?"),
    ),
    "color": (
        ("What color is the text?", "What is the color of the text?", "Which color is the text?",
         "Which color does the text have?", "What color does it have?", "Name the color of the text.",
         "Tell me the color of the text.", "The text is of what color?"),
        ("What color does the text have?", "Which color does it have?", "The text is of which color?"),
    ),
    "ground": (
        ("What color is the {kind}?", "What is the color of the {kind}?", "Which color is the {kind}?",
         "Which color does the {kind} have?", "Name the color of the {kind}.", "The {kind} is of what color?"),
        ("What color does the {kind} have?", "The {kind} is of which color?", "Tell me the color of the {kind}."),
    ),
    "line": (
        ("What does the {o} line say?", "Read the {o} line.", "What is written in the {o} line?",
         "What is the {o} line?", "Tell me what the {o} line says.", "What do you read in the {o} line?"),
        ("Tell me what is written in the {o} line.", "Tell me the {o} line.", "The {o} line says what?"),
    ),
    "which": (
        ("Which word is {c}?", "What does the {c} word say?", "Read the {c} word.", "What word is written in {c}?",
         "What is written in {c}?", "What is the {c} word?", "Tell me the {c} word."),
        ("Tell me which word is {c}.", "Which word is written in {c}?", "Tell me what is written in {c}."),
    ),
    "color of": (
        ("What color is the word {w}?", "What is the color of {w}?", "Which color does {w} have?",
         "Name the color of the word {w}.", "Tell me the color of {w}.", "What color is {w}?"),
        ("Which color is the word {w}?", "What color does the word {w} have?", "Name the color of {w}."),
    ),
    "place": (
        ("Which word is {place}?", "What is written {place}?", "Read the word {place}.",
         "What does the word {place} say?", "What is the word {place}?", "Tell me the word {place}."),
        ("Tell me what is written {place}.", "Which word do you read {place}?", "Tell me which word is {place}."),
    ),
    "next": (
        ("Which word comes {where} {w}?", "What comes {where} {w}?", "What is the word {where} {w}?",
         "What is written {where} {w}?", "Read the word {where} {w}.", "Which word is {where} {w}?"),
        ("What word comes {where} {w}?", "Tell me what comes {where} {w}.", "Tell me the word {where} {w}."),
    ),
    "says": (
        ("Does it say {w}?", "Does the text say {w}?", "Is {w} written here?", "Do you read {w}?",
         "Is it {w}?", "Can you read {w} here?", "Does the sign say {w}?", "Is {w} in the text?"),
        ("Is {w} written in the text?", "Can you read {w} in the text?", "Do you read {w} here?"),
    ),
}

# {x}, {y} what is printed: goods, labels, rows, columns; {n} a number; {o} "first" .. "last"; {head} a column's heading
DOCUMENTS: Phrasings = {
    "line": (
        ("What does the {o} line say?", "Read the {o} line.", "What is the {o} line?",
         "What is written in the {o} line?",
         "Tell me what the {o} line says."),
        ("Tell me the {o} line.", "Tell me what is written in the {o} line."),
    ),
    "company": (
        ("What is the name of the company?", "Which company is this?", "What is the company?",
         "What is the shop called?",
         "What is the name of the shop?", "Who issued this receipt?", "Which shop is this receipt from?"),
        ("Which company is this receipt from?", "What is the company called?", "Which company issued this receipt?"),
    ),
    "address": (
        ("What is the address?", "What is the address of the shop?", "Where is the shop?", "Read the address.",
         "What address is given?", "What is the address of the company?"),
        ("Where is the company?", "Which address is given?", "Read the address of the shop."),
    ),
    "phone": (
        ("What is the phone number?", "Which phone number is given?", "Read the phone number.",
         "What is the phone number of the shop?"),
        ("What phone number is given?", "Read the phone number of the shop."),
    ),
    "date": (
        ("What is the date?", "What date is on the receipt?", "When was this issued?",
         "What is the date of the receipt?",
         "Read the date.", "What is the date of issue?"),
        ("When was this receipt issued?", "Read the date of the receipt.", "Which date is on the receipt?"),
    ),
    "time": (
        ("What is the time?", "What time is on the receipt?", "At what time was this issued?", "Read the time."),
        ("Which time is on the receipt?", "Read the time of issue."),
    ),
    "number": (
        ("What is the number of the receipt?", "What is the receipt number?", "Which number does the receipt have?",
         "Read the receipt number."),
        ("Which receipt number is given?", "Read the number of the receipt."),
    ),
    "subtotal": (
        ("What is the subtotal?", "How much is the subtotal?", "What is the amount of the subtotal?",
         "What is the sum before tax?", "Read the subtotal."),
        ("Read the amount of the subtotal.", "How much is the sum before tax?"),
    ),
    "discount": (
        ("What is the discount?", "How much is the discount?", "What is the amount of the discount?",
         "Read the discount."),
        ("Read the amount of the discount.", "Which discount is given?"),
    ),
    "tax": (
        ("What is the tax?", "How much is the tax?", "What is the amount of tax?", "How much tax is there?",
         "Read the tax."),
        ("What amount of tax is there?", "Read the amount of tax.", "How much is the amount of tax?"),
    ),
    "total": (
        ("What is the total?", "What is the total amount?", "How much is the total?",
         "What is the total of the receipt?",
         "What is the amount to pay?", "Read the total.", "How much is to pay?"),
        ("How much is the total amount?", "Read the total amount.", "Read the amount to pay."),
    ),
    "rounding": (
        ("What is the rounding?", "How much is the rounding?", "What is the amount of the rounding?",
         "Read the rounding.", "By how much was the total rounded?"),
        ("Read the amount of the rounding.", "How much was the total rounded by?"),
    ),
    "cash": (
        ("How much cash was given?", "What is the amount of cash?", "How much was paid?", "What amount was paid?",
         "How much did the customer pay?"),
        ("What amount of cash was given?", "How much cash was paid?"),
    ),
    "change": (
        ("What is the change?", "How much is the change?", "What is the amount of change?", "How much change is there?",
         "Read the change."),
        ("What amount of change is there?", "Read the amount of change.", "How much change was given?"),
    ),
    "amount": (
        ("What is the price of {x}?", "How much is {x}?", "What does {x} cost?", "What is the amount for {x}?",
         "How much does {x} cost?", "What was paid for {x}?"),
        ("How much was paid for {x}?", "What price does {x} have?", "What is the cost of {x}?"),
    ),
    "bought date": (
        ("When was {x} bought?", "On what date was {x} bought?", "On which day was {x} bought?",
         "What is the date of the purchase of {x}?", "When did the customer buy {x}?"),
        ("On what day was {x} bought?", "On which date did the customer buy {x}?"),
    ),
    "bought time": (
        ("At what time was {x} bought?", "What time was it when {x} was bought?",
         "At which time did the customer buy {x}?", "What is the time of the purchase of {x}?"),
        ("At which time was {x} bought?", "At what time did the customer buy {x}?"),
    ),
    "quantity": (
        ("How many {x} were bought?", "What is the quantity of {x}?", "How many {x} are there?",
         "What quantity of {x} was bought?"),
        ("How many {x} are listed?", "What quantity of {x} is listed?"),
    ),
    "listed": (
        ("Is {x} on the receipt?", "Is {x} listed?", "Does the receipt list {x}?", "Was {x} bought?",
         "Is there {x} on the receipt?", "Does the list have {x}?"),
        ("Does the receipt have {x}?", "Is {x} on the list?", "Is there {x} in the list?"),
    ),
    "items": (
        ("How many different items are listed?", "How many items are on the receipt?", "How many items are there?",
         "Count the items.", "What is the number of items?", "How many different items were bought?"),
        ("Count the different items.", "What is the number of different items?", "How many items are listed?"),
    ),
    "costliest": (
        ("Which item costs most?", "What is the costliest item?", "Which item has the highest price?",
         "What item is the most expensive?", "Which item is the costliest?"),
        ("What item costs most?", "Which item is the most expensive?", "What item has the highest price?"),
    ),
    "cheapest": (
        ("Which item costs least?", "What is the cheapest item?", "Which item has the lowest price?",
         "What item is the least expensive?", "Which item is the cheapest?"),
        ("What item costs least?", "Which item is the least expensive?", "What item has the lowest price?"),
    ),
    "more": (
        ("Does {x} cost more than {y}?", "Is {x} more expensive than {y}?", "Was more paid for {x} than for {y}?",
         "Is the price of {x} higher than that of {y}?"),
        ("Is more paid for {x} than for {y}?", "Does {x} have a higher price than {y}?"),
    ),
    "is total": (
        ("Is the total {x}?", "Is {x} the total?", "Does the total come to {x}?", "Is the amount to pay {x}?",
         "Is the total amount {x}?", "Do I have to pay {x}?"),
        ("Is {x} the total amount?", "Is {x} the amount to pay?", "Does the amount to pay come to {x}?"),
    ),
    "adds up": (
        ("Do the items add up to {x}?", "Do the items come to {x} in all?", "Is {x} the sum of the items?",
         "Is the sum of all items {x}?"),
        ("Do all items add up to {x}?", "Is {x} the sum of all items?"),
    ),
    "title": (
        ("What is the title?", "What kind of form is this?", "What is the title of this page?", "Read the title.",
         "What does the title say?"),
        ("Read the title of this page.", "What is the title of this form?"),
    ),
    "field": (
        ("What is the {x}?", "What is given as {x}?", "What is filled in for {x}?", "What does it say for {x}?",
         "Read the {x}.", "What is written for {x}?"),
        ("What is filled in as {x}?", "What is written as {x}?", "Tell me what is given as {x}."),
    ),
    "label": (
        ("Which field says {x}?", "In which field is {x} written?", "What is {x} on this form?",
         "Which field is filled in with {x}?", "Which field holds {x}?"),
        ("In which field is {x} filled in?", "What field says {x}?", "What field holds {x}?"),
    ),
    "n fields": (
        ("How many fields are filled in?", "How many fields does the form have?", "How many fields are there?",
         "Count the fields.", "What is the number of fields?"),
        ("Count the fields that are filled in.", "What is the number of fields on this form?"),
    ),
    "tick": (
        ("Is the box {x} ticked?", "Is {x} ticked?", "Is the box for {x} ticked?", "Was {x} ticked?",
         "Is there a tick at {x}?"),
        ("Was the box {x} ticked?", "Is there a tick in the box {x}?"),
    ),
    "ticked": (
        ("Which box is ticked?", "What is ticked?", "Which is the box with a tick?", "Name the box that is ticked."),
        ("What box is ticked?", "Name the box with a tick."),
    ),
    "n ticked": (
        ("How many boxes are ticked?", "How many boxes have a tick?", "Count the boxes that are ticked.",
         "What is the number of ticked boxes?"),
        ("Count the ticked boxes.", "What is the number of boxes that have a tick?"),
    ),
    "value": (
        ("What is the {x} of {y}?", "What is {x} for {y}?", "What value is in row {y} and column {x}?",
         "What does the table say for {y} in column {x}?", "Read the {x} of {y}.", "Which {x} does {y} have?"),
        ("What {x} does {y} have?", "Read the value in row {y} and column {x}.", "Which {x} is given for {y}?"),
    ),
    "nth": (
        ("What is in the {o} row?", "Which {head} is in the {o} row?", "What {head} comes {o}?",
         "Which {head} comes {o}?", "Read the {head} in the {o} row."),
        ("What {head} is in the {o} row?", "Tell me which {head} comes {o}."),
    ),
    "n rows": (
        ("How many rows are below the header?", "How many rows of values are there?",
         "Count the rows below the header.",
         "What is the number of rows below the header?"),
        ("Count the rows of values.", "What is the number of rows of values?"),
    ),
    "n columns": (
        ("How many columns are there?", "How many columns does the table have?", "Count the columns.",
         "What is the number of columns?", "How many columns do you see?"),
        ("Count the columns of the table.", "What is the number of columns of the table?"),
    ),
    "highest": (
        ("Which {head} has the highest {x}?", "What {head} has the highest {x}?", "Whose {x} is the highest?",
         "Which {head} has the most {x}?", "In which row is {x} the highest?"),
        ("In which row is the highest {x}?", "What {head} has the most {x}?"),
    ),
    "lowest": (
        ("Which {head} has the lowest {x}?", "What {head} has the lowest {x}?", "Whose {x} is the lowest?",
         "Which {head} has the least {x}?", "In which row is {x} the lowest?"),
        ("In which row is the lowest {x}?", "What {head} has the least {x}?"),
    ),
    "higher": (
        ("Is the {x} of {y} higher than that of {z}?", "Does {y} have a higher {x} than {z}?",
         "Is {x} higher for {y} than for {z}?", "Does {y} have more {x} than {z}?"),
        ("Is there more {x} for {y} than for {z}?", "Is there a higher {x} for {y} than for {z}?"),
    ),
    "column sum": (
        ("Do the values in column {x} add up to {n}?", "Is {n} the sum of column {x}?", "Does {x} add up to {n}?",
         "Is the sum of {x} {n}?"),
        ("Does column {x} add up to {n}?", "Is {n} the sum of the values in column {x}?"),
    ),
    "in table": (
        ("Is {y} in the table?", "Is there a row for {y}?", "Does the table have a row for {y}?",
         "Is {y} listed in the table?",
         "Does the table list {y}?"),
        ("Does the table have {y} in a row?", "Is there {y} in the table?"),
    ),
}
# fmt: on
