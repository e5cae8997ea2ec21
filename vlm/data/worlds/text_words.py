"""Words to be read: common English, two to nine letters, chosen for variety of letters and not for meaning."""

WORDS = tuple("""
able about above across actor add adult advice afraid after again age agent ago agree air airplane airport alarm album
alert alive all allow almost alone along already also always am and angel anger angle ankle answer any anyone apple
area arm army arrive arrow art artist aside ask asleep at aunt author autumn avenue avoid awake award aware away baby
back backup bacon bad badge bag baker balance balcony ball banana band bandage bank banner barrel base basket bath
battery battle be beach bear beard beat beauty become bed bedroom bee before begin behind believe bell below belt
bench berry best better between beyond bicycle big bike bill bird birthday bite bitter black blade blame blanket bless
blind block blood bloom blouse blue board boat body bone bonus book boot border boring born boss both bottle bottom
bounce bowl box boy brain branch brand brave bread break breath breeze brick bridge brief bright bring broken broom
brother brown brush bubble bucket budget buffet build bundle burger bus busy butter button buy by cabin cabinet cable
cactus cake calendar call camera camp can canal canary cancel candle candy canvas capital captain car carbon card care
careful cargo carpet carrot cartoon cash castle casual cat cattle cause caution ceiling celery cement center century
cereal certain chain chair chalk champion chance change channel chapter charge charm chart chase cheap check cheer
cheese cherry chess chest chicken chief child children chilly choice choose chorus cinema circle circus citizen city
civil claim class classic clay clean clear clerk clever client cliff climate climb clinic clock close closet clothes
cloud clown club coach coast coat cobra cocoa coconut coffee coin cold collar collect college color column combine
come comedy comfort comment common company complete computer concert concrete confirm connect contact contain contest
control cook cookie cool copper copy coral corn corner correct cost costume cottage cotton couch cough council count
country couple courage course cousin cover cow cradle craft crane crash crazy cream create credit creek cricket crime
crisp cross crowd crown cruise cry crystal cube culture cup cupboard curious current curtain curve cushion custom
customer cut cycle dad daily dairy daisy damage damp dance danger daring dark date daughter day dead deal dear decade
december decide deck deep degree delay deliver demand dentist depart deposit depth desert design desk dessert detail
detect develop device diamond diary diesel differ digital dinner dinosaur direct dirt discount discover dish distance
divide do dock doctor dog dollar dolphin domain donkey donor door double doubt down dragon drama draw drawer dream
dress drift drill drink drive driver drop drum dry duck dust each eagle ear early earring earth east easy eat echo
edge editor effect effort egg eight elbow elder elect electric elegant element elephant eleven elite embassy empire
employ empty end energy engine enjoy enough enter entry envelope equal equip error escape essay estate even evening
event every exact example excellent except exchange exercise exhibit exist exit exotic expect expert explain explore
export express extra eye fabric face fact factory faint fair faith falcon fall false fame family famous fan fancy far
farm farmer fashion fast fasten father fault favor fear feather feature february federal feed feel fence ferry
festival fever few fiber fiction field fifteen fifty fight fill film final find fine finger finish fire firm first
fish fitness five flag flame flash flat flavor fleet flight float flood floor flour flow flower fluid flute fly focus
fog fold follow food foot football forest forget fork form formal fortune forty forward fossil fountain four fox
fragile frame free freedom freeze freight fresh fridge friend frog front frozen fruit fuel full fun funny furniture
future galaxy gallery game garage garden garlic gate gather gear general gentle genuine giant gift ginger giraffe girl
give glad glass global gloss glove glue go goal goat gold golden good gorilla gossip govern grain grammar grand grape
graph grass gravel gravity gray great green grid grill grocery ground group grow guard guess guest guide guitar gun
gym habit hair half hall hammer hamster hand handle happy harbor hard harvest hat hazard he head header health hear
heart heat heavy hedge height helmet help here hero hidden high highway hill history hit hobby hockey hold holder hole
holiday hollow home honest honey honor hood hook hope horizon horn horse hospital host hot hotel hour house human
humble humor hungry hunter hurry hurt husband hybrid ice iceberg icon idea ideal identity if igloo image impact import
in inbox inch income index indoor industry inform injury ink inner input insect inside insight inspire install instant
insure invite invoice iron island it item ivory jacket jaguar jail jam january jazz jeans jelly jewel job join joke
journal journey judge juice jump jungle junior just justice keep kettle key kick kidney kind king kingdom kiosk kiss
kitchen kite kitten knee knife koala label labor ladder ladies lagoon lake lamp land laptop large laser last late
latin laugh laundry law lawn lawyer layer lazy lead leader leaf league learn leather lecture left leg legal legend
leisure lemon less lesson letter level lever liberty library license life light limit line linen lion liquid list
listen litter little live lizard loan lobby lobster local lock locker lodge logic lonely long look lost lotion lottery
loud lounge love low loyal luck lucky luggage lumber lunar lunch luxury lyrics machine mad magic magnet mail main
maker mammal man manage mango manner manual many map maple marble margin marina marine mark marker market marry master
match matter maximum mayor me meal mean meat medal media medical medium meet melon melt member memory mention menu
merit merry message metal meter method middle midnight mighty mile milk mind mine mineral minimum minor minute mirror
misty mix mixture mobile model modern modest module moment money monitor monkey monster month moon more morning mosaic
most motel mother motion motor mountain mouse mouth move movie much mud muffin muscle museum music mustard my mystery
nail name napkin narrow nation native natural nature navy near neck need needle nephew nest network neutral never new
news next nice nickel night nine no noble noise normal north nose note notebook notice novel november now number nurse
nylon oasis object observe obtain ocean october odor of off offer office oil old olive olympic omega on once one onion
online open opera opinion option or oral orange orchard orchid order organ origin ostrich other outdoor outer outlet
output outside oval oven over oxygen oyster package paddle page pain paint pair palace palm panda panel panic panther
papaya paper parade parcel parent park parking parrot part partner party past pasta pastry path patient patio pattern
pause pay peace peanut pearl pebble pedal pen pencil penguin people pepper perfect perfume period permit person petrol
pharmacy phone photo phrase piano pick picnic picture piece pig pillow pilot pink pioneer pirate pizza place plan
plane planet plant plastic plate platform play player plaza please pleasure plenty plug plumber plus pocket poem poet
point polar police policy polish polite pool poor popular porch portal portion position post postage postcard pot
potato poultry pound powder power prayer prefer premium prepare present press pretty price prime prince print prison
private prize problem process produce product profile profit program project promise proof proper protect proud prove
public pudding pulse pump pumpkin pupil puppet purple purse puzzle pyramid quality quarter queen query quest quick
quiet quilt quit quiz quote rabbit racket radar radio railway rainbow raisin random ranger rapid rare rather ratio
razor reach react ready real reason rebel receipt recipe record recover recycle reduce refer reflect reform refund
regard region regular reject relax release relief remain remedy remind remote remove renew rental repair repeat reply
report rescue reserve resort result retail return reveal review reward rhythm ribbon rice ride right rigid ring river
road roast robin robot rocket romance roof room rooster root rope rose rough round route royal rubber rude rugby ruin
ruler rural rush saddle safari safety sailor salad salary sale salmon salon salt salute sample sand sandwich satin
satisfy sauce sauna sausage save scale scan scarf scene school science scooter score scout scrap screen script seal
search season seat second secret section secure select senior sensor series serve service session settle seven shadow
shallow shampoo shape share shark sharp shelf shell sheriff shift shine ship shirt shock shoe shop shore short
shoulder shout shovel shower shuttle sick side sign signal silent silk silly silver similar simple single sister
sixteen sixty skate sketch skill skirt sky sleep sleeve slice slide slim slogan slow small smart smile smoke smooth
snack snail snake snow so soap soccer social sock soda sofa soft soil solar soldier solid solo solution someone song
soon sorry sound soup source south space spark speak special speech speed spell spend sphere spice spider spike
spinach spirit splash sponsor spoon sport spot spray spread spring square squash squirrel stable stadium staff stage
stair stamp stand star start state station statue stay steak steam steel step stereo stick still stock stomach stone
stool stop store storm story stove straight strange straw stream street stress strike string strong student studio
study stuff style subject submit subway success sudden sugar suit summer summit sun sunny sunset sunshine super supply
support sure surf surface surprise survey suspect sweater sweet swift swim swing switch sword symbol syrup system
table tackle tailor talent talk tank tape target task taste tattoo tax taxi tea teach teacher team tell temple ten
tenant tender tennis tent term terrace test text texture thank theater theme theory thick thin thing think third
thirsty thirty thread three throat throne throw thunder ticket tide tiger tight timber time tiny tip tired tissue
title to toast today toddler toilet token tomato tomorrow tone tongue tool tooth topic torch tornado tortoise total
touch tour tourist towel tower town toy track trade traffic trail train transfer trash travel tray treat tree trend
trial triangle tribe trick trip trolley trophy tropical trouble trousers truck true trumpet trunk trust truth try
tulip tuna tunnel turkey turn turtle tutor twelve twenty twin twist type tyre umbrella under unique unit unity up
update upgrade upper upset urban urgent us useful usual vacant vacuum valid valley value vanilla vapor variety vase
vault velvet vendor venue verb verify version vessel veteran victory video view village vine vinegar vintage violet
violin virtual visa visit visitor vitamin vivid vocal voice volcano volume vote voucher voyage wagon waist wait wake
walk wall wallet walnut warm warning wash waste watch water wave we wealth wear weather wedding week welcome west
whale wheat wheel whisper white whole wide width wild wind window wine wing winner winter wire wisdom wise wish
witness wolf woman wonder wood wool word work workshop world worry worth wrap wrist write wrong yacht yard year yellow
yes yogurt young youth zebra zero zipper zone zoo
""".split())  # fmt: skip

WORDS_OF = {n: tuple(w for w in WORDS if len(w) == n) for n in range(2, 10)}
