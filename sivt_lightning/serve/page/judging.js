// -- photos that a person gives --------------------------------------------------------------------------------------

const waiting = []; // photos, which are judged one after the other
let judging = false;

async function judge(files) {
  waiting.push(...files);
  if (judging) return;
  judging = true;
  while (waiting.length) {
    const file = waiting.shift();
    const more = waiting.length ? ` ${waiting.length} more to come.` : "";
    at("said").textContent = `Judging ${file.name}.${more}`;
    try {
      await judgeOne(file);
      at("said").textContent = "";
    } catch (error) {
      at("said").textContent = `${file.name}: ${error.message}`;
    }
  }
  judging = false;
  refresh();
}

async function judgeOne(file) {
  const mine = (turn += 1);
  const body = new FormData();
  body.append("file", file, file.name);
  const found = await asked("v1/predict?map=true", { method: "POST", body });
  const map = found.map ? await levels(found.map, found.pixel_threshold) : null;
  if (mine === turn) show({ ...found, id: found.part, mark: null, map, name: file.name, photo: URL.createObjectURL(file) });
  else if (map) URL.revokeObjectURL(map);
}

// -- the camera of the computer --------------------------------------------------------------------------------------

let stream = null;
const DENIED = {
  NotAllowedError: "This browser was not allowed to use the camera. Allow it for this page, or choose a photo.",
  NotFoundError: "This computer has no camera. Choose a photo instead.",
  NotReadableError: "Another program uses the camera. Close it, or choose a photo.",
};

async function turnOn() {
  if (!navigator.mediaDevices?.getUserMedia) {
    at("said").textContent = "Browsers give a camera only to pages over HTTPS or of this very computer. Choose a photo instead.";
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, facingMode: "environment" } });
  } catch (error) {
    at("said").textContent = DENIED[error.name] ?? `The camera cannot be used (${error.name}). Choose a photo instead.`;
    return;
  }
  at("said").textContent = "";
  at("video").srcObject = stream;
  at("live").hidden = false;
  at("camera").setAttribute("aria-expanded", true);
  at("take").focus();
}

function turnOff() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = at("video").srcObject = null;
  at("live").hidden = true;
  at("camera").setAttribute("aria-expanded", false);
}

function take() {
  const video = at("video"), canvas = element("canvas", "");
  if (!video.videoWidth) return; // nothing seen yet
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const name = `camera-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
  canvas.toBlob((blob) => judge([new File([blob], name, { type: "image/png" })]), "image/png");
}
