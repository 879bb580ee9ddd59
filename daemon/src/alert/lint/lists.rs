//! The words that the rules know, in lower case. Short on purpose: a word that is missing costs a
//! warning or a refusal, which a person sees and can answer; none of them is needed to search.

use std::{collections::HashSet, sync::LazyLock};

/// A set of words.
pub(in crate::alert) struct Words(HashSet<&'static str>);

impl Words {
    fn of(words: &'static str) -> Self {
        Self(words.split_whitespace().collect())
    }

    /// Whether it has the word.
    pub(in crate::alert) fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether it has the word or its singular.
    pub(in crate::alert) fn has_form(&self, word: &str) -> bool {
        self.has(word) || singulars(word).any(|singular| self.has(&singular))
    }
}

/// What a plural may be the plural of; at most one of them is a word.
pub(in crate::alert) fn singulars(word: &str) -> impl Iterator<Item = String> {
    let strip =
        |ending: &str, new: &str| word.strip_suffix(ending).map(|stem| stem.to_owned() + new);
    [strip("'s", ""), strip("s", ""), strip("es", ""), strip("ies", "y"), strip("ves", "f")]
        .into_iter()
        .flatten()
        .filter(|singular| !singular.is_empty())
        .collect::<Vec<_>>()
        .into_iter()
}

macro_rules! words {
    ($($(#[$about:meta])* $name:ident = $words:literal;)*) => {
        $($(#[$about])* pub(in crate::alert) static $name: LazyLock<Words> = LazyLock::new(|| Words::of($words));)*
    };
}

words! {
    /// Words that carry no look of their own.
    FUNCTION = "a an the this that these those and or but with without in on at of for from to by over under
        underneath beneath behind front beside near next up down off out into onto around between above below
        across along against through is are was were be been being am has have had having do does did it its
        it's his her hers their theirs he she they them him who whose whom which what where when as than then
        there here also very quite rather too some any all both each every other another same more most much
        many few no not nor never none nobody neither either one two three four five six seven eight nine ten
        pair so if because while wearing wears worn wear dressed dresses clad carrying carries carried carry
        holding holds held hold seen looks look looking like about only just can could may might will would
        should must him himself herself themselves my your our we you i isn't aren't doesn't don't didn't
        hasn't haven't wasn't weren't something someone somebody anyone anybody description";
    /// Persons, as a description calls them.
    PERSONS = "man woman men women male female males females boy girl boys girls guy guys lady ladies gentleman
        gentlemen person persons people individual individuals kid kids child children baby babies toddler
        infant teen teens teenager teenagers youth youths adult adults suspect suspects subject pedestrian
        pedestrians fellow bloke blokes dude chap lad lass victim mother father mum dad mom son daughter
        couple family customer shopper passenger stranger student pupil visitor citizen folk human wife
        husband grandmother grandfather grandma grandpa traveller traveler employee";
    /// Men and boys.
    MALE = "man men male males boy boys guy guys gentleman gentlemen bloke lad he father husband grandfather";
    /// Women and girls.
    FEMALE = "woman women female females girl girls lady ladies she lass mother wife grandmother";
    /// Nouns for persons that also say for whom a thing is made: "black men shoes".
    MADE_FOR = "male female men women boy boys girl girls lady ladies baby child children kid kids";
    /// Age and build, which may stand between a trait and the person.
    BUILD = "young younger old older elderly middle aged tall short small slim thin slender heavy heavyset
        stocky large big fat obese skinny muscular teenage adult little pretty handsome beautiful attractive
        looking single unknown homeless male female";
    /// Colours that are said of skin as well as of clothes.
    SKIN = "black white brown coloured colored dark pale tanned";
    /// Colours.
    COLOURS = "black white grey gray red blue green yellow orange purple pink brown beige navy khaki olive teal
        turquoise violet maroon burgundy cream tan gold golden silver charcoal lilac magenta cyan mustard
        coral ivory indigo lavender bronze copper crimson scarlet salmon mint aqua plum wine sand
        coloured colored colourful colorful multicoloured multicolored bright dark light pale neon pastel";
    /// Clothes and what is carried or pushed.
    THINGS = "coat jacket shirt tshirt tee t-shirt blouse sweater jumper pullover hoodie hoody sweatshirt cardigan vest
        gilet waistcoat suit blazer dress gown skirt kilt trousers pants jeans shorts leggings tights joggers
        chinos slacks tracksuit overalls dungarees uniform apron robe tunic kimono sari poncho cape cloak
        shawl raincoat overcoat parka anorak windbreaker bomber fleece puffer top tank polo jersey kit shoe
        boot sneaker trainer sandal slipper heel loafer clog sock stocking hat cap beanie beret helmet hood
        hijab headscarf scarf turban kippah bandana headband visor mask glove mitten belt tie necktie bow
        glasses sunglasses goggles necklace bracelet earring watch ring badge lanyard bag backpack rucksack
        handbag purse suitcase briefcase satchel tote trolley case luggage umbrella cane stick phone camera
        laptop newspaper book bottle cup box parcel bicycle bike scooter skateboard pram stroller buggy
        pushchair wheelchair carrier sling seat dog lead leash terrier shepherd flag sign banner guitar ball racket
        print pattern logo stripe style number armband band collar sleeve pocket zip button lining hem
        hair beard moustache mustache ponytail bun braid plait bob fringe dreadlocks afro wig tattoo makeup
        clothes clothing outfit costume wear footwear headwear garment sportswear underwear pyjamas swimsuit
        bikini bra trunks bra camisole bodysuit jumpsuit romper onesie tabard bib sash ribbon hairband clip
        patch letter word text brooch pin lanyards keffiyeh niqab burqa abaya";
    /// Other words of descriptions, so that a capital letter makes no name of them.
    LOOKS = "hair haired long short shoulder length knee waist thigh ankle chin neck curly straight wavy blonde
        blond ginger brunette shaved bald bearded tied back braided bobbed cropped close cut fair striped
        stripes checked check chequered checkered plaid tartan plain printed print floral dotted polka dots
        spotted camouflage camo denim leather wool woollen woolen knitted cotton silk linen velvet corduroy
        fur padded quilted puffy shiny faded ripped torn loose tight baggy skinny slim wide open closed
        zipped buttoned hooded sleeved sleeveless sleeve sleeves collared necked v round high low waisted
        legged flared pleated crossbody messenger shopping carrier rolling running jogging sports sport
        football soccer baseball basketball tennis hiking walking winter summer autumn spring rain sun work
        business formal casual smart dirty clean new old wet dry large small big medium heavy thick thin
        young elderly middle aged tall stocky build man woman left right hand arm leg head top bottom both
        body warmer tan body strap straps laces sole soles hi vis high visibility reflective yellow safety
        security police army military school nurse chef construction worker guard soldier player cyclist
        please alert missing wanted person urgent case look find search";
    /// Makers and clubs that are written with a capital letter and are no names of persons.
    BRANDS = "adidas nike puma reebok asics converse vans fila kappa umbro lacoste levi levis levi's wrangler gucci
        prada chanel vuitton louis hermes burberry hilfiger tommy ralph lauren calvin klein armani versace
        boss hugo dior balenciaga moncler patagonia columbia timberland carhartt dickies champion supreme
        superdry zara uniqlo primark mammut jack wolfskin jansport eastpak herschel kanken fjallraven samsonite
        rimowa north face martens birkenstock crocs ugg balance skechers salomon hoka brooks oakley ray ban
        new yankees lakers bulls chicago york arsenal chelsea liverpool barcelona madrid bayern juventus
        ikea aldi lidl tesco amazon dhl ups fedex starbucks google apple samsung disney mickey mouse hello
        kitty batman superman spiderman marvel pokemon santa halloween christmas ny la nyc usa uk eu nasa
        under armour canada goose english american i'm christian louboutin lacroix bluetooth velcro lycra
        goretex panama bermuda hawaiian oxford chelsea mary janes birkin kelly peter pan";
    /// Given names that are nothing else in a description. Not: Bob, Rose, Mark, Jean, Violet, Olive, Will.
    GIVEN_NAMES = "john james robert michael david william richard joseph thomas charles daniel matthew anthony
        donald steven steve paul andrew joshua kenneth kevin brian george edward ronald timothy jason jeffrey
        ryan jacob gary nicholas eric jonathan stephen larry justin scott brandon benjamin samuel gregory
        alexander patrick dennis tyler aaron jose adam henry nathan zachary peter kyle walter ethan jeremy
        harold keith christian roger noah gerald sean austin arthur lawrence jesse dylan bryan louis mary
        patricia jennifer linda elizabeth barbara susan jessica sarah karen lisa nancy betty margaret sandra
        ashley kimberly emily donna michelle carol amanda dorothy melissa deborah stephanie rebecca sharon
        laura cynthia kathleen amy angela shirley anna brenda pamela emma nicole helen samantha katherine
        christine debra rachel carolyn janet catherine maria heather diane ruth julie olivia joyce virginia
        victoria kelly lauren christina joan evelyn judith megan andrea cheryl hannah jacqueline martha
        gloria teresa sara janice ann anne julia sophia isabella charlotte amelia mohammed muhammad mohamed
        ahmed ali omar hassan hussein fatima aisha mehmet mustafa hans klaus jürgen wolfgang peter heinz
        stefan thorsten uwe sabine ursula petra monika heike pierre jacques francois marie sophie giovanni
        giuseppe marco luca paolo francesca juan carlos miguel pedro pablo carmen lucia ivan vladimir dmitri
        sergei olga natasha svetlana piotr jan pawel katarzyna agnieszka";
    /// Words that are said before a name.
    TITLES = "mr mrs ms mx dr prof professor herr monsieur madame mme señor senor señora senora signor signora";
    /// Days, months, parts of the day.
    TIMES = "yesterday today tonight tomorrow morning evening afternoon night midnight noon midday o'clock oclock
        monday tuesday wednesday thursday friday saturday sunday january february april june july august
        september october november december minute minutes hour hours am pm ago recently earlier later daily
        weekend week month";
    /// Places that a picture of one person does not show.
    PLACES = "gate entrance exit door doorway platform station street road corner hall hallway lobby corridor stairs
        staircase escalator elevator lift room building parking garage carpark bridge square floor terminal
        checkpoint counter desk shop store mall supermarket airport hotel restaurant cafe bar bank school
        hospital office church park playground beach bench fence wall window car bus train truck van taxi
        camera area zone crowd queue line track crossing roundabout harbour harbor dock pier warehouse
        reception toilet toilets bathroom kitchen kiosk tunnel subway metro";
    /// Words that say where.
    WHERE = "near at by beside outside inside next towards toward from leaving entering opposite";
    /// What somebody does or is taken for, which one picture does not show.
    ACTIONS = "stealing steals stole shoplifting fighting fights shouting shouts laughing crying screaming smoking
        loitering hiding limping limps sleeping arguing threatening attacking robbing begging dancing escaping
        fleeing following chasing suspicious suspiciously dangerous aggressive drunk nervous angry lost
        confused terrorist thief criminal burglar robber shoplifter pickpocket vandal fugitive armed friendly
        rich poor famous homeless employed unemployed";
    /// Words that deny.
    NEGATIONS = "no not never without nobody none neither nor lacks lacking isn't aren't doesn't don't didn't hasn't
        haven't wasn't weren't wearn't cannot can't won't";
    /// Words that deny by their end. Not: sleeveless, strapless, which say what is there.
    LACKING = "hatless capless bagless shoeless coatless jacketless beardless hairless maskless helmetless gloveless
        sockless tieless beltless";
    /// Origins and colours of persons.
    ETHNIC = "asian asians caucasian caucasians african africans hispanic hispanics latino latinos latina latinas
        latinx latin arab arabs arabic arabian oriental negro negroid mulatto aboriginal aborigine indigenous
        eskimo inuit gypsy gypsies gipsy gipsies roma romani sinti slavic slav nordic mediterranean eurasian
        mestizo creole caribbean biracial multiracial interracial ethnic ethnicity race racial swarthy
        foreigner foreigners foreign immigrant immigrants migrant migrants refugee refugees european europeans
        ic1 ic2 ic3 ic4 ic5 ic6 ic7 ic9";
    /// Nationalities and peoples.
    NATIONS = "american british english scottish irish welsh french german spanish italian portuguese dutch belgian
        swiss austrian polish czech slovak hungarian romanian bulgarian greek turkish turk russian ukrainian
        belarusian lithuanian latvian estonian finnish swedish norwegian danish icelandic albanian serbian
        croatian bosnian macedonian slovenian kosovan moldovan georgian armenian azerbaijani kazakh uzbek
        afghan iranian persian iraqi syrian lebanese jordanian israeli palestinian saudi emirati yemeni
        egyptian libyan tunisian algerian moroccan sudanese somali ethiopian eritrean kenyan ugandan nigerian
        ghanaian senegalese congolese cameroonian zimbabwean indian pakistani bangladeshi nepali nepalese
        tibetan chinese japanese korean taiwanese mongolian vietnamese thai laotian cambodian burmese
        malaysian indonesian filipino filipina singaporean australian maori polynesian hawaiian mexican
        guatemalan honduran salvadoran cuban dominican haitian jamaican colombian venezuelan ecuadorian
        peruvian bolivian brazilian chilean argentinian argentine uruguayan canadian kurdish kurd chechen
        tamil punjabi bengali gujarati berber nationality";
    /// Religions and their servants. Clothes such as a headscarf or a turban are not among them.
    RELIGIONS = "muslim muslims moslem islamic islamist christian christians catholic catholics protestant jew jews
        jewish hindu hindus sikh sikhs buddhist buddhists mormon mormons atheist evangelical amish pagan
        religious religion rabbi imam nun monk priest hasidic";
    /// Health and disability. Aids that are carried or sat in, such as a wheelchair, are not among them.
    HEALTH = "disabled handicapped handicap disability disabilities crippled cripple autistic autism blind deaf mute
        epileptic epilepsy diabetic schizophrenic psychotic bipolar suicidal mental mentally demented dementia
        alzheimer alzheimers alzheimer's syndrome sick ill illness disease paraplegic quadriplegic paralysed
        paralyzed amputee cancer hiv infected contagious addict alcoholic junkie dwarf midget albino pregnant
        pregnancy";
    /// Sexual orientation.
    ORIENTATION = "gay lesbian homosexual bisexual heterosexual queer lgbt lgbtq";
    /// Gender identity.
    IDENTITY = "transgender transgendered trans transsexual transvestite nonbinary genderqueer intersex ladyboy
        crossdresser transwoman transman";
    /// Political opinion.
    POLITICS = "communist socialist fascist nazi neonazi republican democrat liberal conservative leftist rightist
        anarchist antifa extremist protester protesters protestor protestors demonstrator demonstrators
        activist activists political feminist marxist nationalist";
    /// Membership of a union.
    UNION = "unionist unionists unionised unionized";
    /// Parts of a face.
    FEATURES = "nose lips cheek cheeks cheekbones eyebrow eyebrows jaw jawline freckles freckled";
    /// What covers a face, and pictures of faces.
    FACE_COVERS = "cover covers covered covering coverings hidden hides hiding mask masks masked scarf over paint painted
        shield visor smiley print printed logo shirt t-shirt tshirt skull watch balaclava bandana hood veil";
    /// What a man may carry or wear that is called after him.
    MAN_THINGS = "bag bags bun purse purses sandals";
}

/// Frequent words of other languages that are no English words, with what the language is called.
pub(in crate::alert) static LANGUAGES: LazyLock<Vec<(&str, Words)>> = LazyLock::new(|| {
    [
        (
            "German",
            "der das ein eine einen einem einer und mit ohne nicht kein keine frau herr mädchen junge kind
             rot rote roter rotem roten schwarz schwarze schwarzer schwarzem schwarzen blau blaue blauer
             blauem weiß weisse weiße grün grüne gelb gelbe mantel jacke hose hemd schuhe mütze tasche rucksack
             trägt auf im beim am vor haare lange kurze",
        ),
        (
            "French",
            "le les une des du et avec sans femme homme fille garçon rouge noir noire bleu bleue blanc
             blanche vert verte jaune manteau veste pantalon chemise chaussures chapeau sac porte cheveux
             longs courts qui dans est aux",
        ),
        (
            "Spanish",
            "el los las una unos unas y con sin mujer hombre chica chico niño niña rojo roja negro negra azul
             blanco blanca verde amarillo abrigo chaqueta pantalón pantalones camisa zapatos sombrero mochila
             bolso lleva pelo largo corto que está",
        ),
        (
            "Italian",
            "il lo gli una uno e con senza donna uomo ragazza ragazzo rosso rossa nero nera blu bianco bianca
             verde giallo cappotto giacca pantaloni camicia scarpe cappello zaino borsa indossa capelli
             lunghi corti che della",
        ),
        (
            "Dutch",
            "het een en met zonder niet geen vrouw meisje jongen rood rode zwart zwarte blauw blauwe wit
             witte groen groene geel gele jas broek overhemd schoenen hoed rugzak tas draagt haar lang kort
             die van",
        ),
        (
            "Polish",
            "z ze w bez nie kobieta mężczyzna dziewczyna chłopak czerwony czerwona czerwonym czarny czarna
             czarnym niebieski biały biała zielony żółty płaszcz płaszczu kurtka kurtce spodnie koszula buty
             kapelusz plecak plecakiem torba włosy długie krótkie jest",
        ),
        (
            "Turkish",
            "bir ve ile kadın adam erkek kız çocuk kırmızı siyah mavi beyaz yeşil sarı mont montlu ceket ceketli
             pantolon pantolonlu gömlek ayakkabı şapka şapkalı çanta çantalı saç saçlı uzun kısa giyen olan",
        ),
        (
            "Portuguese",
            "o os um uma e com sem mulher homem menina menino vermelho vermelha preto preta azul branco branca
             verde amarelo casaco jaqueta calça calças camisa sapatos chapéu mochila bolsa veste cabelo
             longo curto não está",
        ),
        (
            "Swedish",
            "en ett och med utan inte kvinna flicka pojke röd rött röda svart svarta blå vit vita grön gul
             kappa jacka byxor skjorta skor hatt ryggsäck väska bär hår långt kort som är",
        ),
    ]
    .map(|(name, words)| (name, Words::of(words)))
    .into()
});
