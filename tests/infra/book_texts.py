"""Passages in forty languages, and the 8-bit and multi-byte encodings that books in them come in."""

TEXTS = {
    "af": """Vroeg in die môre het die ou man sy perde van die veld af gebring. Die reën het nog
nie gekom nie, en die rivier was so laag dat 'n mens maklik oor die klippe kon loop.

"Wanneer gaan ons dan hê wat ons nodig het?" het sy vrou gevra. Hy het gesê dat hulle moet
wag tot die oë van die kinders weer helder is, en dat more beter sou wees.""",
    "bg": """Старецът седеше на прага и гледаше как мъглата бавно се вдига над реката. Никой не
беше минавал по този път от месеци, а кучето лежеше до него и дремеше.

Вечерта дойде момчето с кошница пълна със сливи и каза, че майка му праща поздрави. Двамата
ядоха мълчаливо и слушаха щурците, докато луната изгря над хълма.""",
    "be": """Раніцай над возерам стаяў густы туман, і рыбакі ўжо вярталіся дадому. Хлопчык сядзеў
на беразе і лічыў лодкі, якія павольна з'яўляліся з белай імглы.

Бабуля пякла хлеб і казала, што самае важнае ў жыцці - цярпенне. Потым яны разам пайшлі на
рынак, дзе прадавалі яблыкі, грушы і свежы мёд.""",
    "ca": """El vell pescador s'asseia cada matí davant del port i mirava les barques que sortien.
Feia molts anys que no anava a mar, però encara coneixia tots els vents pel seu nom.

Quan arribava la nit, els nens li demanaven històries. Ell explicava com una tempesta havia
trencat el pal i com, sense aigua ni menjar, van tornar a casa després de deu dies. És així
com aprenien què vol dir tenir paciència.""",
    "cs": """Brzy ráno visela nad řekou hustá mlha a převozník ještě spal. Děti čekaly na břehu,
házely kamínky do vody a počítaly, kolikrát který poskočí, než se potopí.

Když se konečně objevil, měl na hlavě starý klobouk a v ruce džbán s mlékem. Žádné z dětí
nevědělo, odkud přišel, ale všechny ho měly rády, protože uměl vyprávět příběhy o ďáblech,
kouzelnících a tůních bez dna. Večer už byla řeka zase klidná.""",
    "cy": """Yn gynnar yn y bore roedd niwl trwchus dros y llyn ac roedd y pysgotwyr eisoes yn
dychwelyd. Eisteddai'r bachgen ar y lanfa yn gwylio'r tŷ gwyn ar yr ochr draw.

Roedd ei nain yn pobi bara yn ôl hen rysáit. Dywedodd hi fod dŵr oer a thân cynnes yn
bwysicach na dim, a bod rhaid i'r gŵr ifanc ddysgu bod yn amyneddgar â'r toes.""",
    "da": """Tidligt om morgenen lå tågen tæt over søen, og fiskerne var allerede på vej hjem. En
dreng sad på broen og talte de både, der langsomt dukkede frem af det hvide.

Hans mormor bagte brød efter en gammel opskrift. Hun sagde altid, at det vigtigste var at
have tålmodighed, og at øl og smør aldrig måtte stå på det samme bord. Bagefter gik de på
markedet og købte blommer, pærer og frisk honning.""",
    "de": """Früh am Morgen hing der Nebel über dem See, und die Fischer kehrten schon zurück.
Der Junge saß auf dem Steg und zählte die Boote, die langsam aus dem Weiß auftauchten.

Seine Großmutter buk Brot nach einem alten Rezept. Sie sagte, das Wichtigste sei Geduld und
eine warme Küche. Später gingen sie zum Markt, wo man Pflaumen, Äpfel und süßen Honig
verkaufte. Über den Dächern läuteten die Glocken.""",
    "el": """Νωρίς το πρωί η ομίχλη σκέπαζε τη λίμνη και οι ψαράδες γύριζαν ήδη στο λιμάνι. Το
αγόρι καθόταν στην προβλήτα και μετρούσε τις βάρκες που έβγαιναν αργά από το λευκό.

Η γιαγιά του έψηνε ψωμί με μια παλιά συνταγή. Έλεγε πως το πιο σημαντικό είναι η υπομονή
και μια ζεστή κουζίνα. Ύστερα πήγαν μαζί στην αγορά.""",
    "en": """The café on the corner had been closed for a year when Zoë came back to the village.
Nobody had touched the chairs, and the menu still offered crème brûlée for three shillings.

"It is a naïve idea," her brother said, "to think that anything can be kept." She smiled, took
the key from its nail, and opened the shutters. A long stripe of light fell over the dusty
floor, and somewhere behind the wall the old clock, against all reason, began to tick.""",
    "eo": """Frue matene la nebulo kuŝis sur la lago, kaj la fiŝistoj jam revenis hejmen. La knabo
sidis sur la ponto kaj kalkulis la boatojn, kiuj malrapide aperis el la blankaĵo.

Lia avino ĉiam bakis panon laŭ malnova recepto. Ŝi diris, ke la plej grava aĵo estas pacienco,
kaj ke oni ĝoju pri ĉiu ĵaŭdo. Poste ili iris al la vendejo, kie oni vendis prunojn, pirojn
kaj freŝan mielon. Neniu rapidis, ĉar la tago ankoraŭ estis longa. Ĥoro kantis.""",
    "es": """El señor Muñoz cogió el autobús de las nueve y bajó en la estación del sur, donde
llovía a cántaros. Había olvidado el paraguas en la oficina y corrió hasta el café.

¿Quién le esperaba allí? La camarera le sirvió un té con limón y una porción de piña. Él
sonrió y pidió también azúcar. Mañana, pensó, volverá el sol, y la niña jugará en el jardín.""",
    "et": """Varahommikul lasus järve kohal tihe udu ja kalurid pöördusid juba koju. Poiss istus
sillal ja luges paate, mis aeglaselt valgest välja ilmusid.

Tema vanaema küpsetas leiba vana retsepti järgi. Ta ütles, et kõige tähtsam on kannatlikkus
ja soe köök. Pärast läksid nad koos turule, kus müüdi ploome, pirne ja värsket mett. Keegi
ei kiirustanud, sest päev oli veel pikk ja žanrimaalid seisid vaateaknal nagu šokolaad.""",
    "eu": """Goizean goiz laino trinkoa zegoen aintziraren gainean, eta arrantzaleak etxera zetozen.
Mutila zubian eserita zegoen, eta zuritasunetik ateratzen ziren itsasontziak zenbatzen zituen.

Amonak ogia egiten zuen errezeta zahar baten arabera. Pazientzia da garrantzitsuena, esaten
zuen, eta señora Iñakiri garagardo pittin bat eskaini zion. Gero azokara joan ziren, ezti
freskoa eta gaztainak erostera; español askok ez zekiten zer zen. Curaçao ere ez.""",
    "fi": """Varhain aamulla järven yllä leijui sakea sumu, ja kalastajat palasivat jo kotiin.
Poika istui laiturilla ja laski veneitä, jotka hitaasti ilmestyivät valkoisesta.

Hänen isoäitinsä leipoi leipää vanhan ohjeen mukaan. Hän sanoi, että tärkeintä on
kärsivällisyys ja lämmin keittiö. Myöhemmin he menivät yhdessä torille ostamaan päärynöitä
ja tuoretta hunajaa. Kukaan ei pitänyt kiirettä, sillä päivä oli vielä pitkä.""",
    "fr": """Le marché du samedi commence avant l'aube, quand les maraîchers déchargent leurs
cageots sous la halle. Une vieille dame achète des pommes, puis hésite devant les fraises.

À midi, la place est déjà vide et les pavés sèchent au soleil. Il ne reste qu'un chat gris
qui guette les poissonniers, là où l'eau ruisselle encore. Le maire a promis que la fontaine
serait réparée l'été prochain, mais personne n'y croit. Ça, c'était avant Noël.""",
    "ga": """Go luath ar maidin bhí ceo trom os cionn an locha agus bhí na hiascairí ag filleadh
abhaile cheana féin. Bhí an buachaill ina shuí ar an gcé ag comhaireamh na mbád.

Dúirt a sheanmháthair gurbh í an fhoighne an rud is tábhachtaí ar domhan. Ina dhiaidh sin
chuaigh siad go dtí an margadh chun úlla agus mil úr a cheannach. Ní raibh deifir ar aon
duine, mar bhí an lá fós fada.""",
    "gl": """O vello mariñeiro sentaba cada mañá diante do peirao e miraba as dornas que saían ao
mar. Había moitos anos que non navegaba, pero aínda coñecía todos os ventos polo nome.

Á noite, os nenos pedíanlle historias. El contaba como unha treboada rompera o pau e como,
sen auga nin pan, volveran á casa despois de dez días. Así aprendían o que é a paciencia.""",
    "he": """מוקדם בבוקר עלה ערפל מעל האגם והדייגים כבר חזרו אל החוף. הילד ישב על המזח וספר את
הסירות שהופיעו לאט מתוך הלובן.

סבתא שלו אפתה לחם לפי מתכון ישן שנכתב במחברת בלויה. היא אמרה שהדבר החשוב ביותר הוא
הסבלנות. אחר כך הלכו יחד אל השוק, שם מכרו אגסים ודבש טרי.""",
    "hr": """Rano ujutro nad jezerom je visjela gusta magla, a ribari su se već vraćali kući. Dječak
je sjedio na molu i brojio čamce koji su polako izlazili iz bjeline.

Njegova je baka pekla kruh po starom receptu. Govorila je da je najvažnije strpljenje i topla
kuhinja. Poslije su zajedno otišli na tržnicu, gdje su se prodavale šljive, kruške i svježi
med. Nitko se nije žurio jer je dan još bio dug. Đak je čekao, a žetva je ležala na polju.""",
    "hu": """Kora reggel sűrű köd ült a tó fölött, és a halászok már hazafelé tartottak. A fiú a
mólón ült, és a csónakokat számolta, amelyek lassan előtűntek a fehérségből.

Nagyanyja egy régi recept szerint sütötte a kenyeret. Azt mondta, hogy a legfontosabb a
türelem és a meleg konyha. Később együtt mentek a piacra, ahol szilvát, körtét és friss
mézet árultak. Senki sem sietett, mert a nap még hosszú volt. Ő is tudta ezt.""",
    "is": """Snemma morguns lá þétt þoka yfir vatninu og sjómennirnir voru þegar á leið heim.
Drengurinn sat á bryggjunni og taldi bátana sem birtust hægt úr hvítunni.

Amma hans bakaði brauð eftir gamalli uppskrift. Hún sagði að það mikilvægasta væri þolinmæði
og hlýtt eldhús. Síðan fóru þau á markaðinn, þar sem seldar voru plómur, perur og ferskt
hunang. Enginn flýtti sér, því að dagurinn var ennþá langur. Æðarfuglinn synti hjá.""",
    "it": """La mattina presto la nebbia copriva il lago e i pescatori tornavano già a riva. Il
ragazzo sedeva sul molo e contava le barche che uscivano piano dal bianco.

La nonna cuoceva il pane secondo un'antica ricetta. Diceva che la cosa più importante è la
pazienza, perché chi ha fretta non capirà mai la bontà delle cose. Più tardi andarono insieme
al mercato, dove c'erano prugne, pere e miele; nessuno però aveva fretta. È così che andò.""",
    "ja": """早朝の湖には濃い霧が立ちこめ、漁師たちはもう岸へ戻り始めていた。少年は桟橋に座り、
白い霧の中からゆっくり現れる小舟を数えていた。

祖母は古い手帳に書かれた作り方で毎朝パンを焼いた。いちばん大切なのは辛抱だと、いつも
静かに話していた。そのあと二人は市場へ行き、梨や蜂蜜を買った。""",
    "ko": """이른 아침 호수 위에는 짙은 안개가 끼었고 어부들은 벌써 기슭으로 돌아오고 있었다.
소년은 부두에 앉아 안개 속에서 천천히 나타나는 배를 세고 있었다.

할머니는 낡은 공책에 적힌 방법대로 빵을 구웠다. 가장 중요한 것은 인내라고 늘
말씀하셨다. 그 뒤에 두 사람은 시장에 가서 배와 꿀을 샀다.""",
    "lt": """Anksti rytą virš ežero tvyrojo tirštas rūkas, o žvejai jau grįžo namo. Berniukas sėdėjo
ant liepto ir skaičiavo valtis, kurios lėtai išniro iš baltumos.

Jo močiutė kepė duoną pagal seną receptą. Ji sakė, kad svarbiausia yra kantrybė ir šilta
virtuvė. Paskui jie kartu nuėjo į turgų, kur buvo pardavinėjamos slyvos, kriaušės ir šviežias
medus. Niekas neskubėjo, nes diena dar buvo ilga. Ąžuolas ošė už tvoros.""",
    "lv": """Agri no rīta pār ezeru klājās bieza migla, un zvejnieki jau atgriezās mājās. Zēns sēdēja
uz laipas un skaitīja laivas, kas lēnām iznira no baltuma.

Viņa vecmāmiņa cepa maizi pēc senas receptes. Viņa teica, ka vissvarīgākā ir pacietība un
silta virtuve. Pēc tam viņi kopā gāja uz tirgu, kur pārdeva plūmes, bumbierus un svaigu
medu. Neviens nesteidzās, jo diena vēl bija gara. Ķirši ziedēja, un ģimene dziedāja.""",
    "mk": """Рано наутро над езерото лежеше густа магла, а рибарите веќе се враќаа дома. Момчето
седеше на мостот и ги броеше чамците што полека излегуваа од белината.

Баба му печеше леб според стар рецепт. Таа велеше дека најважно е трпението. Потоа заедно
отидоа на пазар, каде што се продаваа сливи, круши и свеж мед. Ѓорѓи ѕирна преку оградата,
а ѕвездите веќе гаснеа. Никој не брзаше, бидејќи денот беше долг. Џебот му беше празен.""",
    "mt": """Kmieni filgħodu kien hemm ċpar oħxon fuq il-għadira, u s-sajjieda kienu diġà qed jerġgħu
lura lejn id-dar. It-tifel kien bilqiegħda fuq il-moll u kien jgħodd id-dgħajjes.

In-nanna tiegħu kienet taħmi l-ħobż skont riċetta antika. Hija qalet li l-iżjed ħaġa
importanti hija s-sabar u kċina sħuna. Wara marru flimkien is-suq, fejn kienu jinbiegħu
l-għanbaqar, il-lanġas u l-għasel frisk. Ħadd ma kien mgħaġġel, għax il-ġurnata kienet twila.""",
    "nb": """Tidlig om morgenen lå tåken tett over innsjøen, og fiskerne var allerede på vei hjem.
En gutt satt på bryggen og telte båtene som langsomt dukket fram av det hvite.

Bestemoren hans bakte brød etter en gammel oppskrift. Hun sa alltid at det viktigste var å ha
tålmodighet og et varmt kjøkken. Etterpå gikk de på torget og kjøpte plommer, pærer og fersk
honning. Ingen hadde det travelt, for dagen var ennå lang. Ærfuglen lå på vannet.""",
    "nl": """Vroeg in de ochtend hing er een dichte mist boven het meer en de vissers keerden al
terug. De jongen zat op de steiger en telde de boten die langzaam opdoemden.

Zijn grootmoeder bakte brood volgens een oud recept. Ze zei dat geduld het belangrijkste was,
en een warme keuken, hè? Later gingen ze samen naar de markt, waar één vrouw uit België
pruimen en reële hoeveelheden honing verkocht. Niemand had haast; de zeeën waren kalm.""",
    "pl": """Rano nad jeziorem unosiła się gęsta mgła, a rybacy wracali już z połowu. Chłopiec stał
na pomoście i liczył łódki, które powoli wyłaniały się z bieli.

Jego babcia piekła chleb według przepisu zapisanego w starym zeszycie, pełnym skreśleń i
tłustych plam. Mówiła, że najważniejsza jest cierpliwość. Później poszli razem na targ, gdzie
sprzedawano śliwki, gruszki i świeży miód. Źrebię uwiązane przy płocie żuło siano.""",
    "pt": """A estação ficava além da ponte e ninguém se lembrava de quando o último trem tinha
partido. O avô contava histórias de marinheiros, e as crianças não acreditavam.

À noite, o vento trazia o cheiro do mar e das maçãs. Depois vinha a avó com pão e manteiga,
e a lição começava de novo. Também havia um cão que dormia à porta e não ladrava a ninguém.""",
    "ro": """Dimineaţa devreme, deasupra lacului plutea o ceaţă groasă, iar pescarii se întorceau deja
acasă. Băiatul şedea pe ponton şi număra bărcile care apăreau încet din alb.

Bunica lui cocea pâine după o reţetă veche. Ea spunea că cel mai important lucru este răbdarea
şi o bucătărie caldă. Apoi au mers împreună la piaţă, unde se vindeau prune, pere şi miere
proaspătă. Nimeni nu se grăbea, fiindcă ziua era încă lungă. Întâi a plouat, apoi a ieşit
soarele.""",
    "ru": """Ранним утром над озером стоял густой туман, и рыбаки уже возвращались с уловом. Мальчик
сидел на причале и считал лодки, которые медленно появлялись из белизны.

Бабушка пекла хлеб по старому рецепту, записанному в потрёпанной тетради. Она говорила, что
самое важное - терпение. Потом они вместе пошли на рынок, где продавали сливы и свежий мёд.""",
    "sk": """Skoro ráno visela nad jazerom hustá hmla a rybári sa už vracali domov. Chlapec sedel na
móle a počítal člny, ktoré sa pomaly vynárali z belosti.

Jeho stará mama piekla chlieb podľa starého receptu. Hovorila, že najdôležitejšia je
trpezlivosť a teplá kuchyňa. Potom išli spolu na trh, kde sa predávali slivky, hrušky a
čerstvý med. Nikto sa neponáhľal, lebo deň bol ešte dlhý. Kôň stál pri plote a vŕba šumela,
ľudia spievali a ďateľ klopal.""",
    "sl": """Zgodaj zjutraj je nad jezerom visela gosta megla in ribiči so se že vračali domov. Deček
je sedel na pomolu in štel čolne, ki so se počasi prikazovali iz beline.

Njegova babica je pekla kruh po starem receptu. Govorila je, da je najpomembnejša
potrpežljivost in topla kuhinja. Pozneje sta šla skupaj na tržnico, kjer so prodajali slive,
hruške in svež med. Nihče ni hitel, ker je bil dan še dolg. Češnje so že cvetele.""",
    "sq": """Herët në mëngjes mbi liqen rrinte një mjegull e dendur dhe peshkatarët po ktheheshin në
shtëpi. Djali ishte ulur në mol dhe numëronte varkat që dilnin ngadalë nga e bardha.

Gjyshja e tij piqte bukë sipas një recete të vjetër. Ajo thoshte se gjëja më e rëndësishme
është durimi. Pastaj shkuan së bashku në treg, ku shiteshin kumbulla, dardha dhe mjaltë i
freskët. Askush nuk nxitonte, sepse dita ishte ende e gjatë. Çdo gjë kishte kohën e vet.""",
    "sr": """Рано ујутру над језером је висила густа магла, а рибари су се већ враћали кући. Дечак
је седео на пристаништу и бројао чамце који су полако излазили из белине.

Његова бака је пекла хлеб по старом рецепту. Говорила је да је најважније стрпљење и топла
кухиња. После су заједно отишли на пијацу, где су се продавале шљиве, крушке и свеж мед.
Нико се није журио, јер је дан још био дуг. Ђак је чекао, а џак је лежао крај пута.""",
    "sv": """Tidigt på morgonen låg dimman tät över sjön, och fiskarna var redan på väg hem. Pojken
satt på bryggan och räknade båtarna som långsamt dök upp ur det vita.

Hans mormor bakade bröd efter ett gammalt recept. Hon sade att det viktigaste var tålamod och
ett varmt kök. Sedan gick de till torget, där man sålde plommon, päron och färsk honung. Ingen
hade bråttom, för dagen var ännu lång. Över åsen flög svanarna.""",
    "th": """เช้าตรู่มีหมอกหนาปกคลุมทะเลสาบ ชาวประมงกลับเข้าฝั่งพร้อมปลาเต็มลำเรือ เด็กชายนั่งอยู่
บนท่าเรือและนับเรือที่ค่อยๆ โผล่ออกมาจากหมอกสีขาว

คุณยายของเขาอบขนมปังตามสูตรเก่าที่เขียนไว้ในสมุดเล่มหนึ่ง ท่านบอกว่าสิ่งสำคัญที่สุด
คือความอดทน หลังจากนั้นพวกเขาไปตลาดด้วยกันเพื่อซื้อผลไม้และน้ำผึ้งสด""",
    "tr": """Sabahın erken saatlerinde balıkçılar ağlarını toplayıp kıyıya döndüler. Küçük kız,
iskelenin ucunda oturmuş, martıları sayıyordu.

Çarşıda ise dükkânlar yeni açılıyor, çaycı bardakları özenle diziyordu. Işıklar söndüğünde
güneş dağların ardından yükseldi. Öğleden sonra şiddetli bir yağmur başladı ve herkes saçak
altına sığındı. Kimse acele etmiyordu, çünkü gün uzundu. İhtiyar adam gülümsedi.""",
    "uk": """Рано-вранці над озером стояв густий туман, і рибалки вже поверталися з уловом. Хлопчик
сидів на причалі та лічив човни, які повільно з'являлися з білої імли.

Бабуся пекла хліб за старим рецептом, записаним у пошарпаному зошиті. Вона казала, що
найважливіше - терпіння. Потім вони разом пішли на ринок, де продавали сливи, груші та свіжий
мед. Ґанок був ще вологий, а їжак уже спав. Ніхто не поспішав, бо день був довгий.""",
    "ar": """في الصباح الباكر ارتفع الضباب فوق البحيرة وعاد الصيادون إلى الشاطئ. جلس الصبي على
الرصيف وراح يعد القوارب التي ظهرت ببطء من البياض.

كانت جدته تخبز الخبز حسب وصفة قديمة كتبت في دفتر بال. قالت إن أهم شيء هو الصبر. ثم ذهبا
معا إلى السوق حيث كان الناس يبيعون الخوخ والعسل الطازج.""",
    "zh-Hans": """清晨的湖面上笼罩着浓雾，渔民们已经开始返回岸边。男孩坐在码头上，数着从白雾中慢慢
出现的小船。

他的祖母按照旧本子里的方法烤面包，她常说最重要的是耐心。后来他们一起去市场买梨和新鲜的
蜂蜜，谁也不着急，因为白天还很长。""",
    "zh-Hant": """清晨的湖面上籠罩著濃霧，漁民們已經開始返回岸邊。男孩坐在碼頭上，數著從白霧中慢慢
出現的小船。

他的祖母按照舊本子裡的方法烤麵包，她常說最重要的是耐心。後來他們一起去市場買梨和新鮮的
蜂蜜，誰也不著急，因為白天還很長。""",
}

_WESTERN = "cp1252 iso8859-1 iso8859-15 mac_roman cp850 cp437"
_CENTRAL = "cp1250 iso8859-2 cp852 mac_latin2"
_CYRILLIC = "cp1251 koi8-r iso8859-5 cp866 mac_cyrillic"
_BALTIC = "cp1257 iso8859-13 iso8859-4 cp775"

# An encoding that cannot hold a passage is left out by `encoded_texts`.
ENCODINGS = {
    **dict.fromkeys("af ca de en es eu fi fr ga gl it nl pt sq sv".split(), _WESTERN),
    **dict.fromkeys("cs hu pl sk".split(), _CENTRAL),
    **dict.fromkeys("hr sl".split(), _CENTRAL + " mac_croatian"),
    **dict.fromkeys("bg be ru uk".split(), _CYRILLIC + " koi8-u cp855"),
    **dict.fromkeys("mk sr".split(), "cp1251 iso8859-5 mac_cyrillic cp855"),
    **dict.fromkeys("lt lv".split(), _BALTIC),
    **dict.fromkeys("da nb".split(), _WESTERN + " cp865"),
    "et": _BALTIC + " cp1252 iso8859-15",
    "is": "cp1252 iso8859-1 iso8859-15 cp850 cp861 mac_iceland",
    "cy": "iso8859-14",
    "mt": "iso8859-3",
    "eo": "iso8859-3",
    "ro": _CENTRAL,
    "tr": "cp1254 iso8859-9 cp857 mac_turkish",
    "el": "cp1253 iso8859-7 cp737 cp869 mac_greek",
    "he": "cp1255 iso8859-8 cp862",
    "ar": "cp1256 iso8859-6",
    "th": "cp874 tis_620",
    "ja": "cp932 shift_jis euc_jp iso2022_jp",
    "ko": "cp949 euc_kr johab iso2022_kr",
    "zh-Hans": "gb2312 gbk gb18030 hz",
    "zh-Hant": "big5 big5hkscs",
}


def encoded_texts() -> list[tuple[str, str, str]]:
    """Every (language, encoding, text) whose encoding can hold the text."""
    found = []
    for language, encodings in ENCODINGS.items():
        for encoding in encodings.split():
            text = TEXTS[language]
            try:
                text.encode(encoding)
            except UnicodeEncodeError:
                continue
            found.append((language, encoding, text))
    return found
